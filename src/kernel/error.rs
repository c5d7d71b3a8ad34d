//! What the kernel refuses, told by errno and never by the text of a message.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::errno::InWords;
use crate::model::NetworkId;
use crate::namespace::NamespaceError;

/// Why something could not be read from or written to the kernel.
///
/// Every operation on an endpoint's interface is all or nothing: after an error nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// CAP_NET_ADMIN or CAP_SYS_ADMIN is missing (EPERM, EACCES).
    #[error("{what}: not permitted; run the agent as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN")]
    NotPermitted {
        /// What was tried.
        what: String,
    },
    /// A table of nf_tables cannot be changed (EPERM, EACCES).
    #[error(
        "{what}: not permitted, since a process owns a table of this name (`flags owner` in `nft list ruleset`): end that process or have \
         it give the table up; if there is none, give the agent CAP_NET_ADMIN"
    )]
    TableNotPermitted {
        /// What was tried.
        what: String,
    },
    /// There is no namespace file at this path.
    #[error("there is no network namespace at {path}: check --netns")]
    NoSuchNamespace {
        /// The path that was given.
        path: PathBuf,
    },
    /// The path is under /proc/PID, and the process is gone.
    #[error("process {pid} is gone, and its network namespace with it: check --pid")]
    ProcessGone {
        /// The process.
        pid: u32,
    },
    /// The file is not a network namespace.
    #[error("{path} is not a network namespace: give a path like /run/netns/NAME or /proc/PID/ns/net")]
    NotANamespace {
        /// The path that was given.
        path: PathBuf,
    },
    /// A path of somebody else's is no network namespace that can be used.
    #[error(transparent)]
    Named(#[from] NamespaceError),
    /// The interface name is taken in the endpoint's namespace.
    #[error(
        "there is already an interface {ifname} in {place}: choose another with --ifname{}",
        free.iter().map(|free| format!(", such as --ifname {free}")).collect::<String>()
    )]
    InterfaceExists {
        /// The name.
        ifname: String,
        /// The namespace, as the caller named it.
        place: String,
        /// A name of the same kind that is free there, if one could be found.
        free: Option<String>,
    },
    /// The network's bridge has as many ports as a bridge can have (EXFULL).
    #[error(
        "{what}: the network has as many endpoints on this node as a bridge of the kernel has ports, 1,023 with its \
         VXLAN device; attach it on another node, or detach one here"
    )]
    BridgeFull {
        /// What was tried.
        what: String,
    },
    /// The namespace has a default route already.
    #[error("{place} has a default route already, {way}")]
    DefaultRouteExists {
        /// The namespace, as the caller named it.
        place: String,
        /// Where that leads to.
        way: String,
    },
    /// The interface name is empty, longer than 15 bytes, or has a character the kernel refuses.
    #[error(
        "{ifname:?} cannot be the name of an interface: use 1 to 15 characters without '/', ':' or space, not 'all' or 'default'"
    )]
    BadInterfaceName {
        /// The name.
        ifname: String,
    },
    /// The network has no namespace on this node, or no bridge in it.
    #[error("network {network} is not set up on this node: it is being made, or was removed")]
    NoSuchNetwork {
        /// The network.
        network: NetworkId,
    },
    /// Another VXLAN device of this node has the VNI on the same UDP port.
    #[error(
        "VNI {vni} on UDP port {port} belongs to another VXLAN device of this node: remove that device, or \
         create the network anew"
    )]
    VniInUse {
        /// The VNI.
        vni: u32,
        /// The UDP port.
        port: u16,
    },
    /// A socket that is not of VXLAN has the UDP port.
    #[error(
        "UDP port {port} is in use by another program: stop it, or use another VXLAN port in the cluster"
    )]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// A network is encrypted, and this node is not in the mesh.
    #[error(
        "this node is not in the WireGuard mesh yet: `lanmesh status` says what is in the way; try again"
    )]
    NoMesh,
    /// A WireGuard device cannot have its UDP port.
    #[error(
        "WireGuard cannot listen on UDP port {port}: stop the program that has it, or set another `wireguard_port`"
    )]
    MeshPortInUse {
        /// The port.
        port: u16,
    },
    /// No interface of this node has the address.
    #[error("no interface of this node has the address {address}: give one that it has with --advertise")]
    AddressNotLocal {
        /// The address.
        address: IpAddr,
    },
    /// The kernel was built without something that is needed (EOPNOTSUPP, EAFNOSUPPORT).
    #[error("{what}: this kernel cannot do that; see `lanmesh doctor`")]
    NotSupported {
        /// What was tried.
        what: String,
    },
    /// Any other refusal of the kernel.
    #[error("{what}: {}", InWords(source))]
    Refused {
        /// What was tried.
        what: String,
        /// The errno.
        source: io::Error,
    },
    /// A file or directory of ours cannot be used.
    #[error("cannot {what} {path}: {}", InWords(source))]
    File {
        /// What was tried.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// The operation before it failed for a reason that is its own, too.
    #[error("not tried, for the same reason as the one before it")]
    NotTried,
    /// The netlink connection broke.
    #[error("the connection to the kernel broke while it was to {what}: try again")]
    Broken {
        /// What was tried.
        what: String,
    },
}

impl KernelError {
    /// What the kernel's `errno` means for `what`.
    pub(super) fn from_errno(what: impl Into<String>, errno: Errno) -> Self {
        let what = what.into();
        match errno {
            Errno::EPERM | Errno::EACCES => Self::NotPermitted { what },
            Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT => Self::NotSupported { what },
            Errno::EXFULL => Self::BridgeFull { what },
            errno => Self::Refused { what, source: errno.into() },
        }
    }

    /// What came of `what`, a change of a table of nf_tables: the kernel says by an errno that it refuses, and may not be asked at all.
    pub(super) fn of_answer(
        what: impl FnOnce() -> String,
        answer: io::Result<Option<Errno>>,
    ) -> Result<(), Self> {
        match answer {
            Ok(None) => Ok(()),
            Ok(Some(Errno::EPERM | Errno::EACCES)) => Err(Self::TableNotPermitted { what: what() }),
            Ok(Some(errno)) => Err(Self::from_errno(what(), errno)),
            Err(source) => Err(Self::Refused { what: what(), source }),
        }
    }
}
