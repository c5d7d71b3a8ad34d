//! The kinds of kernel objects that this node keeps: a file for each, and a row in the table below.
//!
//! The rows are in the order in which a pass makes things; what goes, goes in the reverse order. What lets in less is
//! there before what it is to protect, and what others go through before these.

mod doors;
mod mesh;
mod networks;
mod ports;
mod services;
mod underlay_guard;

use futures_util::future::BoxFuture;

use super::Settings;
use super::keeper::{Keeper, Row, remove_all};
use crate::kernel::{Kernel, KernelError};
use crate::state::State;

pub use doors::Doors;
pub use mesh::{Mesh, remembered_keys};
pub use networks::{Networks, vanished};
pub use ports::Ports;
pub use services::Services;
pub use underlay_guard::Guard;

/// What a kind may need to begin with.
#[derive(Clone)]
pub struct Setup {
    /// The cluster's id.
    pub cluster: String,
    /// How the node is set.
    pub settings: Settings,
    /// What must be remembered across a crash.
    pub state: State,
}

macro_rules! table {
    ($($row:ident: $kind:ty),+ $(,)?) => {
        /// Everything that this node keeps in its kernel.
        pub struct Subjects {
            $(#[doc = concat!("The row `", stringify!($row), "`.")] pub $row: Keeper<$kind>,)+
        }

        impl Subjects {
            /// Nothing of which is known yet.
            pub fn new(setup: &Setup) -> Self {
                Self { $($row: Keeper::new(<$kind>::new(setup)),)+ }
            }

            /// The rows, in the order of the table.
            pub fn rows(&mut self) -> Vec<&mut dyn Row> {
                vec![$(&mut self.$row),+]
            }
        }

        /// Removes whatever of ours is in the kernel, as far as that can be; what could not.
        pub async fn clear(kernel: &dyn Kernel) -> Vec<KernelError> {
            let kinds: Vec<BoxFuture<'_, Vec<KernelError>>> = vec![$(Box::pin(remove_all::<$kind>(kernel))),+];
            let mut errors = Vec::new();
            for kind in kinds.into_iter().rev() {
                errors.extend(kind.await);
            }
            errors
        }
    };
}

table! {
    underlay_guard: Guard,
    mesh: Mesh,
    networks: Networks,
    services: Services,
    ports: Ports,
    doors: Doors,
}
