//! A service instance, as its records and names need it (RFC 6763).

use super::Instance;

/// The longest label, in bytes (RFC 1035 section 2.3.4).
pub(super) const LABEL_MAX: usize = 63;

/// A service instance with a host that has it.
#[derive(Debug)]
pub(super) struct Offer {
    /// The instance's label.
    pub instance: Box<[u8]>,
    /// The two labels of its type.
    pub kind: [Box<[u8]>; 2],
    pub subtypes: Vec<Box<[u8]>>,
    pub host: u32,
    pub port: u16,
    pub txt: Vec<Box<[u8]>>,
}

impl Offer {
    /// `None` where something does not fit into a name.
    pub fn new(instance: &Instance, host: u32) -> Option<Self> {
        let label = |text: &str| {
            (1..=LABEL_MAX).contains(&text.len()).then(|| text.as_bytes().to_vec().into_boxed_slice())
        };
        let (service, protocol) = instance.kind.split_once('.')?;
        Some(Self {
            instance: label(&instance.name)?,
            kind: [label(service)?, label(protocol).filter(|_| !protocol.contains('.'))?],
            subtypes: instance.subtypes.iter().filter_map(|subtype| label(subtype)).collect(),
            host,
            port: instance.port,
            txt: instance
                .txt
                .iter()
                .filter(|text| text.len() <= 255)
                .map(|text| text.clone().into_boxed_slice())
                .collect(),
        })
    }

    /// The labels of the instance's name below the network's domain.
    pub fn labels(&self) -> [&[u8]; 3] {
        [&self.instance, &self.kind[0], &self.kind[1]]
    }
}
