//! What the errors of every part of the agent are at the socket: their class, and the field they are about.

use lanmesh_ipam::{AllocError, PlanError};

use crate::api::{ApiError, ErrorKind};
use crate::cluster::{ClusterError, JoinError};
use crate::kernel::KernelError;
use crate::local::LeaseError;
use crate::namespace::NamespaceError;
use crate::plan::MtuError;
use crate::reconcile::KeepError;
use crate::state::StateError;

impl From<ClusterError> for ApiError {
    fn from(error: ClusterError) -> Self {
        let kind = match &error {
            ClusterError::Join(error) => return error.into(),
            ClusterError::AlreadyMember { .. }
            | ClusterError::NetworkExists { .. }
            | ClusterError::VniTaken { .. }
            | ClusterError::RemoveSelf(_)
            | ClusterError::ManagerAnswers { .. }
            | ClusterError::TooLarge { .. }
            | ClusterError::TooManyLabels { .. } => ErrorKind::Conflict,
            ClusterError::Unsound { .. } => ErrorKind::BadRequest,
            ClusterError::NoSuchNetwork(_) | ClusterError::NoSuchNode(_) => ErrorKind::NotFound,
            ClusterError::NotManager { .. }
            | ClusterError::ManagerLeft { .. }
            | ClusterError::NoAnswer { .. }
            | ClusterError::Stopped => ErrorKind::Unavailable,
            ClusterError::Advertise(_) => {
                return ApiError::bad_field("advertise", error.to_string());
            }
            ClusterError::Bind { .. } => ErrorKind::Conflict,
            ClusterError::Crypto { .. }
            | ClusterError::State(_)
            | ClusterError::LaterState { .. }
            | ClusterError::Thread(_) => ErrorKind::Internal,
        };
        ApiError::new(kind, error.to_string())
    }
}

impl From<&JoinError> for ApiError {
    fn from(error: &JoinError) -> Self {
        let text = error.to_string();
        match error {
            JoinError::MalformedToken(_) => ApiError::bad_field("token", text),
            JoinError::BadManager { .. } => ApiError::bad_field("manager", text),
            JoinError::NoAdvertise(_) => ApiError::bad_field("advertise", text),
            JoinError::WrongFingerprint { .. } | JoinError::Refused { .. } | JoinError::Apart { .. } => {
                ApiError::conflict(text)
            }
            JoinError::Unreachable { .. } | JoinError::Broken { .. } => ApiError::unavailable(text),
        }
    }
}

impl From<KernelError> for ApiError {
    fn from(error: KernelError) -> Self {
        let text = error.to_string();
        match error {
            KernelError::NoSuchNamespace { .. }
            | KernelError::ProcessGone { .. }
            | KernelError::NotANamespace { .. }
            | KernelError::Named(_) => ApiError::bad_field("netns", text),
            KernelError::BadInterfaceName { .. } => ApiError::bad_field("ifname", text),
            KernelError::DefaultRouteExists { .. } => ApiError::conflict(text)
                .at("default_route")
                .hint("remove that route first, or attach without --default-route"),
            KernelError::InterfaceExists { .. } => ApiError::conflict(text).at("ifname"),
            KernelError::AddressNotLocal { .. } => ApiError::bad_field("advertise", text),
            KernelError::VniInUse { .. } | KernelError::PortInUse { .. } | KernelError::BridgeFull { .. } => {
                ApiError::conflict(text)
            }
            _ => ApiError::internal(text),
        }
    }
}

impl From<NamespaceError> for ApiError {
    fn from(error: NamespaceError) -> Self {
        Self::bad_field("netns", error.to_string())
    }
}

impl From<KeepError> for ApiError {
    fn from(error: KeepError) -> Self {
        match error {
            KeepError::State(error) => error.into(),
            KeepError::Cluster(error) => error.into(),
        }
    }
}

impl From<LeaseError> for ApiError {
    fn from(error: LeaseError) -> Self {
        let text = error.to_string();
        match error {
            LeaseError::Full(AllocError::Outside { .. } | AllocError::AskedTwice { .. }) => {
                ApiError::bad_field("addresses", text)
            }
            LeaseError::Full(_) => ApiError::conflict(text),
            LeaseError::Plan(_) | LeaseError::State(_) => ApiError::internal(text),
        }
    }
}

impl From<PlanError> for ApiError {
    fn from(error: PlanError) -> Self {
        ApiError::new(ErrorKind::BadRequest, error.to_string())
    }
}

impl From<MtuError> for ApiError {
    fn from(error: MtuError) -> Self {
        ApiError::conflict(error.to_string()).at("subnets")
    }
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        ApiError::internal(error.to_string())
    }
}
