//! What should be in the kernel for one network and what is there, side by side: for whoever asks why something does not pass there.

use super::Reconciler;
use super::subject::{Subject, Turn};
use super::subjects::{Doors, Guard, Mesh, Networks, Ports, Services};
use crate::kernel::{ClientKey, KernelError};
use crate::mesh::DesiredMesh;
use crate::model::NetworkId;
use crate::plan::{
    Action, DesiredNetwork, DoorStep, GuardStep, MeshAction, ObservedMesh, ObservedNetwork, PortStep,
};

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
    /// What a pass would do about the ports that are published, where they were asked for: in the network, and on the node.
    pub ports: (Vec<PortStep>, Vec<DoorStep>),
}

/// What is to be looked at beside the network.
#[derive(Debug, Default)]
pub struct Beside {
    /// The mesh; else the guard of the underlay.
    pub mesh: bool,
    /// What leads this client to services.
    pub client: Option<ClientKey>,
    /// The ports that are published.
    pub ports: bool,
}

impl Reconciler {
    /// Looks at one network, and at what is `beside` it. Changes nothing.
    ///
    /// # Errors
    /// Some of it cannot be read.
    pub async fn compare(&self, network: NetworkId, beside: Beside) -> Result<Compared, KernelError> {
        let mut work = self.work().await;
        let work = &mut *work;
        self.follow_alone(work).await;
        let (kernel, subjects) = (&*self.0.kernel, &work.subjects);
        let have = Networks::observe(kernel, network).await?;
        let networks = &subjects.networks.subject;
        let want = networks.desired(network).cloned();
        let steps = networks.plan(network, &have, Turn::Make);
        let steps = steps.into_iter().map(|op| op.action).collect();
        let mut compared = Compared {
            want,
            have,
            steps,
            guard: None,
            mesh: None,
            services: Vec::new(),
            ports: Default::default(),
        };
        if beside.mesh {
            let have = Mesh::observe(kernel, ()).await?;
            let mesh = &subjects.mesh.subject;
            let steps = mesh.plan((), &have, Turn::Make);
            compared.mesh = Some(ComparedMesh { want: mesh.wants().cloned(), have, steps });
        } else {
            let have = Guard::observe(kernel, ()).await?;
            compared.guard = subjects.underlay_guard.subject.plan((), &have, Turn::Clear).pop();
        }
        if let Some(client) = beside.client {
            let have = Services::observe(kernel, client).await?;
            let steps = subjects.services.subject.plan(client, &have, Turn::Make);
            compared.services = steps.iter().map(ToString::to_string).collect();
        }
        if beside.ports {
            let have = Ports::observe(kernel, network).await?;
            compared.ports.0 = subjects.ports.subject.plan(network, &have, Turn::Make);
            let have = Doors::observe(kernel, ()).await?;
            compared.ports.1 = subjects.doors.subject.plan((), &have, Turn::Make);
        }
        Ok(compared)
    }
}
