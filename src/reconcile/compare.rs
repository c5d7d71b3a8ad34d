//! What should be in the kernel for one network and what is there, side by side: for whoever asks why something does not pass there.

use super::Reconciler;
use super::subject::{Subject, Turn};
use super::subjects::{Guard, Mesh, Networks, Services};
use crate::kernel::{ClientKey, KernelError};
use crate::mesh::DesiredMesh;
use crate::model::NetworkId;
use crate::plan::{Action, DesiredNetwork, GuardStep, MeshAction, ObservedMesh, ObservedNetwork};

/// The mesh as it should be and as it is, and what a pass would do about it.
#[derive(Debug)]
pub struct ComparedMesh {
    /// As it should be; `None`: not at all.
    pub want: Option<DesiredMesh>,
    /// As it is.
    pub have: ObservedMesh,
    /// What a pass would do.
    pub steps: Vec<MeshAction>,
}

/// What should be in the kernel for one network and what is there.
#[derive(Debug)]
pub struct Compared {
    /// The network as it should be; `None`: not at all.
    pub want: Option<DesiredNetwork>,
    /// The network as it is; `None`: it has no namespace here.
    pub have: Option<ObservedNetwork>,
    /// What a pass would do about it.
    pub steps: Vec<Action>,
    /// What a pass would do about the guard of the underlay.
    pub guard: Option<GuardStep>,
    /// The mesh, where it was asked for.
    pub mesh: Option<ComparedMesh>,
    /// What a pass would do about what leads the client that was asked for to services, a line each.
    pub services: Vec<String>,
}

impl Reconciler {
    /// Looks at one network, with the `mesh` or the guard of the underlay below it, and at what leads one `client` in it to services.
    /// Changes nothing.
    ///
    /// # Errors
    /// Some of it cannot be read.
    pub async fn compare(
        &self,
        network: NetworkId,
        mesh: bool,
        client: Option<ClientKey>,
    ) -> Result<Compared, KernelError> {
        let mut work = self.work().await;
        let work = &mut *work;
        self.follow_alone(work).await;
        let (kernel, subjects) = (&*self.0.kernel, &work.subjects);
        let have = Networks::observe(kernel, network).await?;
        let networks = &subjects.networks.subject;
        let want = networks.desired(network).cloned();
        let steps = networks.plan(network, &have, Turn::Make);
        let steps = steps.into_iter().map(|op| op.action).collect();
        let mut compared = Compared { want, have, steps, guard: None, mesh: None, services: Vec::new() };
        if mesh {
            let have = Mesh::observe(kernel, ()).await?;
            let mesh = &subjects.mesh.subject;
            let steps = mesh.plan((), &have, Turn::Make);
            compared.mesh = Some(ComparedMesh { want: mesh.wants().cloned(), have, steps });
        } else {
            let have = Guard::observe(kernel, ()).await?;
            compared.guard = subjects.underlay_guard.subject.plan((), &have, Turn::Clear).pop();
        }
        if let Some(client) = client {
            let have = Services::observe(kernel, client).await?;
            let steps = subjects.services.subject.plan(client, &have, Turn::Make);
            compared.services = steps.iter().map(ToString::to_string).collect();
        }
        Ok(compared)
    }
}
