//! A service that is announced on behalf of an endpoint, and how it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::EndpointName;
use super::zeroconf::{SUBTYPES_MAX, is_label, is_service_type};

/// RFC 6763 section 6.2: a TXT record that fits a packet with the rest of the service.
const TXT_MAX: usize = 1300;

/// A DNS-SD service (RFC 6763) that is announced for an endpoint.
///
/// Written `[INSTANCE=]TYPE[,SUBTYPE…]:PORT[,KEY[=VALUE]…]`, for instance
/// `Build farm=_distcc._tcp,_gcc12:3632,txtvers=1,jobs=4,idle`. A comma in a key or a value is written `\,`, a backslash `\\`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvertisedService {
    /// What it is called; none: as the endpoint.
    pub instance: Option<String>,
    /// The type, `_name._tcp` or `_name._udp`.
    pub kind: String,
    /// Subtypes to browse for, with the underscore that they usually begin with (RFC 6763 section 7.1).
    pub subtypes: BTreeSet<String>,
    /// The port it listens on.
    pub port: u16,
    /// The TXT record's keys and values. A key without value is written without `=`, which is not the same as one
    /// whose value is empty (RFC 6763 section 6.4).
    pub txt: BTreeMap<String, Option<String>>,
}

/// What is wrong with an advertised service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// No port is given.
    #[error("no port")]
    NoPort,
    /// The protocol is neither TCP nor UDP (RFC 6763 section 7: everything that is not TCP is `_udp`).
    #[error("the type does not end in ._tcp or ._udp")]
    Protocol,
    /// The type's first label is no service name.
    #[error("the type does not begin with _")]
    Underscore,
    /// RFC 6335 section 5.1, but for the length and `_`.
    #[error("the type is not 1 to 62 letters, digits, '-' and '_'")]
    Type,
    /// Port 0, or none at all.
    #[error("the port is not 1 to 65535")]
    Port,
    /// The instance is empty, too long, unprintable, or would be read as something else.
    #[error("the instance is not 1 to 63 bytes without control characters, or begins with '_' or holds '=_'")]
    Instance,
    /// A subtype is empty, too long or unprintable.
    #[error("a subtype is not 1 to 63 bytes without control characters, ',' and ':'")]
    Subtype,
    /// Too many subtypes.
    #[error("there are more than 32 subtypes")]
    Subtypes,
    /// An entry that begins with `=`.
    #[error("a TXT entry has no key")]
    NoKey,
    /// RFC 6763 section 6.4.
    #[error("the TXT key {0:?} is not printable ASCII without '='")]
    Key(String),
    /// RFC 6763 section 6.1.
    #[error("the TXT entry {0:?} is longer than 255 bytes")]
    EntryTooLong(String),
    /// RFC 6763 section 6.2.
    #[error("the TXT entries are longer than 1300 bytes together")]
    TxtTooLong,
}

impl ServiceError {
    /// The field of an [`AdvertisedService`] that is wrong.
    pub fn field(&self) -> String {
        match self {
            Self::Protocol | Self::Underscore | Self::Type => "kind".into(),
            Self::NoPort | Self::Port => "port".into(),
            Self::Instance => "instance".into(),
            Self::Subtype | Self::Subtypes => "subtypes".into(),
            Self::NoKey | Self::TxtTooLong => "txt".into(),
            Self::Key(key) | Self::EntryTooLong(key) => format!("txt.{key}"),
        }
    }
}

/// A text that does not describe an advertised service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an advertised service ({why}): write it as '_distcc._tcp:3632,jobs=4'")]
pub struct ServiceParseError {
    text: String,
    why: ServiceError,
}

impl AdvertisedService {
    /// Whether it can be announced.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), ServiceError> {
        let require = |good, why| if good { Ok(()) } else { Err(why) };
        let label = self
            .kind
            .strip_suffix("._tcp")
            .or_else(|| self.kind.strip_suffix("._udp"))
            .ok_or(ServiceError::Protocol)?;
        let name = label.strip_prefix('_').ok_or(ServiceError::Underscore)?;
        require(!name.is_empty() && is_service_type(&self.kind), ServiceError::Type)?;
        require(self.port != 0, ServiceError::Port)?;
        let called = |text: &str| is_label(text) && !text.starts_with('_') && !text.contains("=_");
        require(self.instance.as_deref().is_none_or(called), ServiceError::Instance)?;
        let subtype = |text: &String| is_label(text) && !text.contains([',', ':']);
        require(self.subtypes.iter().all(subtype), ServiceError::Subtype)?;
        require(self.subtypes.len() <= SUBTYPES_MAX, ServiceError::Subtypes)?;
        for (key, value) in &self.txt {
            require(!key.is_empty(), ServiceError::NoKey)?;
            let printable = key.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'=');
            require(printable, ServiceError::Key(key.clone()))?;
            let len = key.len() + value.as_ref().map_or(0, |value| 1 + value.len());
            require(len <= 255, ServiceError::EntryTooLong(key.clone()))?;
        }
        require(
            self.strings().iter().map(|text| text.len() + 1).sum::<usize>() <= TXT_MAX,
            ServiceError::TxtTooLong,
        )
    }

    /// What is unusual about its type, if anything: devices have such types, and some software does not look for them.
    pub fn warning(&self) -> Option<String> {
        let name = self.kind.split('.').next().and_then(|label| label.strip_prefix('_'))?;
        let usual = name.len() <= 15 && !name.contains('_');
        let kind = &self.kind;
        (!usual).then(|| {
            format!("the name in {kind} is not 1 to 15 letters, digits and '-' (RFC 6335): some software may not find it")
        })
    }

    /// What it is called where `endpoint` has it.
    pub fn instance_of(&self, endpoint: &EndpointName) -> String {
        self.instance.clone().unwrap_or_else(|| endpoint.to_string())
    }

    /// The strings of its TXT record; `txtvers` comes first (RFC 6763 section 6.7).
    pub fn strings(&self) -> Vec<Vec<u8>> {
        let (first, rest): (Vec<_>, Vec<_>) =
            self.txt.iter().partition(|(key, _)| key.eq_ignore_ascii_case("txtvers"));
        let string = |(key, value): (&String, &Option<String>)| match value {
            Some(value) => format!("{key}={value}").into_bytes(),
            None => key.clone().into_bytes(),
        };
        first.into_iter().chain(rest).map(string).collect()
    }
}

impl FromStr for AdvertisedService {
    type Err = ServiceParseError;

    fn from_str(text: &str) -> Result<Self, ServiceParseError> {
        parse(text).map_err(|why| ServiceParseError { text: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<AdvertisedService, ServiceError> {
    // A type begins with `_`, an instance does not.
    let (instance, rest) = match text.find("=_") {
        Some(at) if !text.starts_with('_') => (Some(text[..at].to_owned()), &text[at + 1..]),
        _ => (None, text),
    };
    let (types, rest) = rest.split_once(':').ok_or(ServiceError::NoPort)?;
    let mut types = types.split(',').map(str::to_owned);
    let kind = types.next().unwrap_or_default();
    let subtypes = types.collect();
    let mut parts = entries(rest).into_iter();
    let port = parts.next().and_then(|port| port.parse().ok()).ok_or(ServiceError::Port)?;
    let entry = |part: String| match part.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (part, None),
    };
    let service = AdvertisedService { instance, kind, subtypes, port, txt: parts.map(entry).collect() };
    service.check().map(|()| service)
}

/// What stands between commas. A backslash takes a comma or a backslash behind it for what it is.
fn entries(text: &str) -> Vec<String> {
    let mut entries = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let last = entries.len() - 1;
        match character {
            ',' => entries.push(String::new()),
            '\\' => entries[last].push(characters.next_if(|next| matches!(next, ',' | '\\')).unwrap_or('\\')),
            _ => entries[last].push(character),
        }
    }
    entries
}

/// Text as it stands between commas.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,")
}

impl fmt::Display for AdvertisedService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(instance) = &self.instance {
            write!(f, "{instance}=")?;
        }
        f.write_str(&self.kind)?;
        self.subtypes.iter().try_for_each(|subtype| write!(f, ",{subtype}"))?;
        write!(f, ":{}", self.port)?;
        self.txt.iter().try_for_each(|(key, value)| match value {
            Some(value) => write!(f, ",{}={}", escaped(key), escaped(value)),
            None => write!(f, ",{}", escaped(key)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_service_reads_back_as_it_is_written() {
        for text in [
            "_distcc._tcp:3632,jobs=4,txtvers=1",
            "_distcc._tcp,_a,_b:3632",
            "Build farm, left: 4=5=_distcc._tcp,_a:3632,a=_b,c=,d",
            "_x._udp:1,a=b=_c",
            r"_ipp._tcp:631,pdl=application/pdf\,image/urf,rp=a\\b",
            "_a_name-that-is-longer-than-15._tcp:1",
        ] {
            let service: AdvertisedService = text.parse().expect(text);
            assert_eq!(service.to_string(), text);
        }
        let text = "Build farm=_distcc._tcp,_gcc12:3632,idle,jobs=4,none=";
        let service: AdvertisedService = text.parse().expect("is well formed");
        assert_eq!((service.kind.as_str(), service.port), ("_distcc._tcp", 3632));
        assert_eq!(service.instance.as_deref(), Some("Build farm"));
        assert!(service.subtypes.contains("_gcc12"));
        assert_eq!(service.txt["jobs"].as_deref(), Some("4"));
        assert_eq!(service.txt["none"].as_deref(), Some(""));
        assert_eq!(service.txt["idle"], None);
    }

    #[test]
    fn a_value_may_hold_commas_and_backslashes() {
        let text = r"_ipp._tcp:631,pdl=application/pdf\,image/urf,path=C:\dir,end=\";
        let service: AdvertisedService = text.parse().expect("is well formed");
        assert_eq!(service.txt["pdl"].as_deref(), Some("application/pdf,image/urf"));
        assert_eq!(service.txt["path"].as_deref(), Some(r"C:\dir"));
        assert_eq!(service.txt["end"].as_deref(), Some(r"\"));
        assert_eq!(service.to_string().parse().as_ref(), Ok(&service));
    }

    #[test]
    fn an_unusual_type_is_taken_with_a_warning() {
        let warning = |kind: &str| format!("{kind}:1").parse::<AdvertisedService>().expect(kind).warning();
        for kind in ["_a-name-too-long-x._tcp", "_with_underscore._udp"] {
            assert!(warning(kind).is_some_and(|text| text.contains(kind)), "{kind}");
        }
        assert_eq!(warning("_distcc._tcp"), None);
    }

    #[test]
    fn the_txt_record_keeps_its_equals_signs_and_begins_with_its_version() {
        let service: AdvertisedService = "_distcc._tcp:1,a,b=,c=1,txtvers=1".parse().expect("is well formed");
        assert_eq!(service.strings(), [&b"txtvers=1"[..], b"a", b"b=", b"c=1"]);
    }

    #[test]
    fn a_malformed_advertised_service_says_what_is_wrong_with_it() {
        let long = format!("_x._tcp:1,k={}", "v".repeat(254));
        let longer =
            format!("_x._tcp:1{}", (0..6).map(|i| format!(",{i}={}", "v".repeat(250))).collect::<String>());
        for (text, why) in [
            ("_distcc._tcp", "no port"),
            ("distcc._tcp:1", "begin with _"),
            ("_distcc._sctp:1", "._tcp or ._udp"),
            ("_distcc._tcp:0", "1 to 65535"),
            ("_._tcp:1", "1 to 62"),
            ("_a b._tcp:1", "1 to 62"),
            ("_distcc._tcp:1,=x", "no key"),
            ("_distcc._tcp:1,\u{e4}=x", "printable ASCII"),
            ("=_distcc._tcp:1", "the instance"),
            ("_distcc._tcp,:1", "a subtype"),
            (&long, "255"),
            (&longer, "1300"),
        ] {
            let error = text.parse::<AdvertisedService>().expect_err(text).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
