//! A service instance, as its records and names need it (RFC 6763).

use hickory_proto::rr::Name;

use super::{Instance, Target};

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
    /// The endpoint.
    pub host: u32,
    pub place: Option<OfferPlace>,
    pub txt: Vec<Box<[u8]>>,
}

/// What its SRV record says.
#[derive(Debug)]
pub(super) struct OfferPlace {
    /// Instead of the endpoint.
    pub beyond: Option<Name>,
    pub port: u16,
    pub priority: u16,
    pub weight: u16,
}

impl Offer {
    /// `None` where something does not fit into a name.
    pub fn new(instance: &Instance, host: u32) -> Option<Self> {
        let label = |text: &str| {
            (1..=LABEL_MAX).contains(&text.len()).then(|| text.as_bytes().to_vec().into_boxed_slice())
        };
        let (service, protocol) = instance.kind.split_once('.')?;
        let place = match &instance.place {
            None => None,
            Some(place) => Some(OfferPlace {
                beyond: match &place.target {
                    Target::Endpoint => None,
                    Target::Beyond(name) => Some(Name::from_labels(name.split('.').map(str::as_bytes)).ok()?),
                },
                port: place.port,
                priority: place.priority,
                weight: place.weight,
            }),
        };
        Some(Self {
            instance: label(&instance.name)?,
            kind: [label(service)?, label(protocol).filter(|_| !protocol.contains('.'))?],
            subtypes: instance.subtypes.iter().filter_map(|subtype| label(subtype)).collect(),
            host,
            place,
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
