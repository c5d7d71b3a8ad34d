//! `lanmesh discover`: the DNS-SD services of a network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{CliError, Context, output};
use crate::api::types::{ServiceAnswer, ServiceFilter};
use crate::model::{AdvertisedService, NetworkName, ServiceError, ZeroconfMode};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The network
    network: NetworkName,
    /// Only services of this type, such as _distcc._tcp, or of a subtype, _sub1._sub._distcc._tcp
    #[arg(value_name = "TYPE")]
    kind: Option<ServiceFilter>,
    /// How to print them
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Columns
    Table,
    /// One JSON document, as --json
    Json,
    /// A line for the variable DISTCC_HOSTS; the type is _distcc._tcp unless it is given
    Distcc,
    /// A line for each, as attach --advertise-service takes it
    Declared,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let Args { network, kind, format } = args;
    let distcc = (*format == Format::Distcc).then(|| "_distcc._tcp".parse().ok()).flatten();
    let services = context.client.services(network, kind.as_ref().or(distcc.as_ref())).await?;
    // It would look as if nobody announced anything.
    if context.client.network(network).await?.zeroconf == ZeroconfMode::Off {
        eprintln!("lanmesh: zeroconf of {network} is off: services that were declared are all that is known");
    }
    match format {
        _ if context.json => output::json(&services),
        Format::Json => output::json(&services),
        Format::Distcc => output::print(&format!("{}\n", distcc_hosts(&services))),
        Format::Declared => {
            for service in &services {
                match declared(service) {
                    Ok(service) => output::print(&format!("{service}\n"))?,
                    Err(why) => {
                        eprintln!("lanmesh: warning: {:?} cannot be declared: {why}", service.instance);
                    }
                }
            }
            Ok(())
        }
        Format::Table => output::print(&table(&services)),
    }
}

fn table(services: &[ServiceAnswer]) -> String {
    let rows = services.iter().map(|service| {
        [
            service.kind.clone(),
            printable(&service.instance),
            format!("{}@{}", service.endpoint, service.node),
            printable(&service.host),
            output::list(&service.addresses),
            service.port.to_string(),
            printable(&output::list(&service.txt)),
        ]
    });
    output::table(["TYPE", "INSTANCE", "ENDPOINT", "HOST", "ADDRESSES", "PORT", "TXT"], rows)
}

/// The service as it would be declared for an endpoint.
fn declared(service: &ServiceAnswer) -> Result<AdvertisedService, ServiceError> {
    let entry = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.clone(), None),
    };
    let declared = AdvertisedService {
        instance: Some(service.instance.clone()),
        kind: service.kind.clone(),
        subtypes: service.subtypes.iter().cloned().collect(),
        port: service.port,
        txt: service.txt.iter().map(entry).collect(),
    };
    declared.check().map(|()| declared)
}

/// What others wrote, without what would move the cursor of the reader's terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The hosts as distcc lists those that it finds itself: each instance once, `ADDRESS:PORT/JOBS`, with the jobs that
/// its TXT record names, or else four for each of its CPUs.
fn distcc_hosts(services: &[ServiceAnswer]) -> String {
    let mut seen = BTreeSet::new();
    let hosts = services.iter().filter_map(|service| {
        let address = service.addresses.iter().min_by_key(|address| address.is_ipv6())?;
        let host = match address {
            IpAddr::V4(v4) => format!("{v4}:{}/{}", service.port, jobs(service)),
            IpAddr::V6(v6) => format!("[{v6}]:{}/{}", service.port, jobs(service)),
        };
        seen.insert(service.instance.as_str()).then_some(host)
    });
    hosts.collect::<Vec<_>>().join(" ")
}

fn jobs(service: &ServiceAnswer) -> u32 {
    /// What distcc takes for each CPU.
    const PER_CPU: u32 = 4;
    let number = |key| service.txt_value(key).and_then(|text| text.trim().parse().ok()).filter(|n| *n > 0);
    number("jobs").unwrap_or_else(|| number("cpus").unwrap_or(1_u32).saturating_mul(PER_CPU))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(instance: &str, addresses: &[&str], txt: &[&str]) -> ServiceAnswer {
        ServiceAnswer {
            network: "net".parse().unwrap(),
            instance: instance.to_owned(),
            kind: "_distcc._tcp".to_owned(),
            subtypes: Vec::new(),
            host: "h".to_owned(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            port: 3632,
            priority: 0,
            weight: 0,
            txt: txt.iter().map(ToString::to_string).collect(),
            node: "n1".parse().unwrap(),
            endpoint: "e".parse().unwrap(),
            declared: false,
        }
    }

    #[test]
    fn distcc_gets_one_host_for_each_instance_with_the_jobs_it_names() {
        let services = [
            service("a", &["fd00::1", "10.0.0.1"], &["cpus=2", "jobs=7"]),
            service("a", &["10.0.0.9"], &[]),
            service("b", &["fd00::2"], &["CPUS=2"]),
            service("c", &["10.0.0.3"], &["jobs=none"]),
            service("d", &[], &[]),
        ];
        assert_eq!(distcc_hosts(&services), "10.0.0.1:3632/7 [fd00::2]:3632/8 10.0.0.3:3632/4");
        assert_eq!(distcc_hosts(&[]), "");
    }

    #[test]
    fn what_is_listed_can_be_declared_as_it_was() {
        let one = service("Bau. 2", &[], &["pdl=a,b", "idle", "path=C:\\x"]);
        let text = declared(&one).expect("it can be declared").to_string();
        assert_eq!(text, r"Bau. 2=_distcc._tcp:3632,idle,path=C:\\x,pdl=a\,b");
        let back: AdvertisedService = text.parse().expect("it is read back");
        assert_eq!(back, declared(&one).expect("it can be declared"));
        assert_eq!(declared(&service("_x", &[], &[])), Err(ServiceError::Instance));
    }

    #[test]
    fn what_others_wrote_does_not_move_the_cursor() {
        assert!(!table(&[service("x\u{1b}[2J", &[], &["a\u{7}b"])]).contains(['\u{1b}', '\u{7}']));
    }
}
