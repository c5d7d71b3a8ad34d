//! Which machine this is: known by something that a copy of the disk alone does not bring along, where there is such.

use ring::digest::{SHA256, digest};

/// The machine's id (machine-id(5)), and the number that the firmware, or who runs the virtual machine, gave it.
const PLACES: [&str; 3] = ["/etc/machine-id", "/var/lib/dbus/machine-id", "/sys/class/dmi/id/product_uuid"];

/// What tells this machine from others, hashed: what is kept of it tells nobody the id itself. `None` where there is
/// nothing.
pub fn id() -> Option<String> {
    let [etc, dbus, firmware] = PLACES.map(|place| std::fs::read_to_string(place).ok());
    of(etc.or(dbus).as_deref(), firmware.as_deref())
}

fn of(machine: Option<&str>, firmware: Option<&str>) -> Option<String> {
    let known = [machine, firmware].map(|id| id.map(str::trim).filter(|id| !id.is_empty()));
    if known == [None, None] {
        return None;
    }
    let text = format!("lanmesh machine\0{}\0{}", known[0].unwrap_or_default(), known[1].unwrap_or_default());
    Some(data_encoding::HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_another_where_one_of_its_ids_is_and_none_where_there_is_none() {
        let one = of(Some("a\n"), Some("b\n"));
        assert_eq!(one, of(Some("a"), Some("b")));
        assert!(
            one != of(Some("a"), Some("c")) && one != of(Some("c"), Some("b")) && one != of(Some("a"), None)
        );
        assert_eq!(of(Some("\n"), None), None);
    }
}
