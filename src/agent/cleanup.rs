//! What former agents left in the kernel and nobody has any more: found, and removed.
//!
//! Works without an agent. What a run directory whose agent lives has is never touched, nor anything that does not say whose
//! it is while there is an agent that it may belong to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::kernel::{ClientKey, KernelConfig, KernelError, Linux};
use crate::model::NetworkId;
use crate::plan::{
    Desired, DoorStep, GuardStep, MeshAction, Plan, PortStep, ServiceStep, plan, plan_doors, plan_mesh,
    plan_ports, plan_underlay_guard,
};
use crate::rundir::{self, Owner};

/// One thing that is there and is nobody's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What it is.
    pub what: String,
    /// The run directory that it belonged to, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_dir: Option<PathBuf>,
    /// Why it is still there, if it was to be removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cleanup {
    /// What is nobody's, or was until now.
    pub leftovers: Vec<Found>,
    /// What was not looked at, and why.
    pub left_alone: Vec<String>,
}

/// Looks for what former agents left, beside `more` in the run directories that have something mounted in them; removes it
/// if `remove`.
///
/// # Errors
/// The kernel cannot be used.
pub async fn cleanup(more: &[PathBuf], remove: bool) -> Result<Cleanup, KernelError> {
    let more = more.iter().filter_map(|dir| dir.canonicalize().ok());
    let dirs: BTreeSet<PathBuf> = rundir::with_mounts().into_iter().chain(more).collect();
    let (mut live, mut former) = (Vec::new(), Vec::new());
    let mut told: Vec<PathBuf> = Vec::new();
    let mut cleanup = Cleanup::default();
    for dir in dirs {
        match rundir::owner(&dir) {
            Some(Owner { pid, socket }) => {
                let who =
                    pid.map_or_else(|| "an agent".to_owned(), |pid| format!("the agent with process {pid}"));
                cleanup.left_alone.push(format!("{}: {who} has it, and answers at {socket}", dir.display()));
                live.push((dir, pid));
            }
            None => former.push(dir),
        }
    }
    for dir in former {
        told.push(dir.clone());
        let kernel = open(&dir)?;
        // The node's way into the mesh may be that of an agent that lives.
        let mut steps = Steps::find(&kernel, live.is_empty()).await?;
        if remove {
            steps.remove(&kernel).await;
        }
        cleanup.leftovers.extend(steps.told.into_iter().map(|(what, error)| Found {
            what,
            run_dir: Some(dir.clone()),
            error,
        }));
    }
    let known: Vec<u32> = live.iter().filter_map(|(_, pid)| *pid).collect();
    let unseen = rundir::agents_here().into_iter().find(|pid| !known.contains(pid));
    if let Some(pid) = unseen {
        cleanup.left_alone.push(format!(
            "what is in the node's own namespace: process {pid} is an agent whose run directory cannot be seen from here"
        ));
        return Ok(cleanup);
    }
    let alone = live.is_empty();
    let told: Vec<PathBuf> = live.into_iter().map(|(dir, _)| dir).chain(told).collect();
    let kernel = Linux::here()?;
    for leftover in kernel.leftovers(&told, alone).await? {
        let error = if remove { kernel.remove_leftover(&leftover).await.err() } else { None };
        let error = error.map(|error| error.to_string());
        let what = leftover.to_string();
        cleanup.leftovers.push(Found { what, run_dir: None, error });
    }
    Ok(cleanup)
}

fn open(dir: &Path) -> Result<Linux, KernelError> {
    Linux::open(KernelConfig { run_dir: dir.to_owned(), without: Vec::new(), queries_per_s: 1 })
}

/// What removes all that a run directory has.
struct Steps {
    networks: Plan,
    mesh: Vec<MeshAction>,
    guard: Option<GuardStep>,
    /// Who is sent to services by what is there.
    clients: Vec<ClientKey>,
    /// What of published ports is there, on the node and in networks.
    doors: Option<DoorStep>,
    ports: Vec<(NetworkId, Vec<PortStep>)>,
    /// Each in words, and why it could not be done.
    told: Vec<(String, Option<String>)>,
}

impl Steps {
    async fn find(kernel: &Linux, alone: bool) -> Result<Self, KernelError> {
        let networks = plan(&Desired::default(), &kernel.observe().await?);
        let mut observed = kernel.observe_mesh().await?;
        if !alone {
            observed.link = None;
        }
        let mesh = plan_mesh(None, &observed, &BTreeSet::new());
        let guard = plan_underlay_guard(None, kernel.observe_underlay_guard().await?.as_ref());
        let texts = networks.ops.iter().map(ToString::to_string);
        let mut clients = Vec::new();
        for key in kernel.service_clients().await? {
            clients.extend(kernel.observe_services(key).await?.map(|_| key));
        }
        let doors = plan_doors(None, kernel.observe_doors().await?.as_ref());
        let mut ports = Vec::new();
        for network in kernel.port_networks().await? {
            ports.push((network, plan_ports(None, kernel.observe_ports(network).await?.as_ref())));
        }
        let texts = texts.chain(clients.iter().map(|_| ServiceStep::Delete.to_string()));
        let texts = texts.chain(doors.iter().map(ToString::to_string));
        let texts = texts.chain(ports.iter().flat_map(|(_, steps)| steps).map(ToString::to_string));
        let texts =
            texts.chain(mesh.iter().map(ToString::to_string)).chain(guard.iter().map(ToString::to_string));
        let told = texts.map(|text| (text, None)).collect();
        Ok(Self { networks, mesh, guard, clients, doors, ports, told })
    }

    async fn remove(&mut self, kernel: &Linux) {
        let mut failed: Vec<(String, String)> = Vec::new();
        if let Some(step) = self.doors.take() {
            let text = step.to_string();
            failed.extend(kernel.apply_doors(step).await.err().map(|error| (text, error.to_string())));
        }
        for (network, steps) in std::mem::take(&mut self.ports) {
            let left = kernel.apply_ports(network, steps).await;
            failed.extend(left.iter().map(|(step, error)| (step.to_string(), error.to_string())));
        }
        // Before the interfaces of those go that they are for.
        for key in std::mem::take(&mut self.clients) {
            let left = kernel.apply_services(key, vec![ServiceStep::Delete]).await;
            failed.extend(left.iter().map(|(step, error)| (step.to_string(), error.to_string())));
        }
        let applied = kernel.apply(&self.networks).await;
        failed.extend(applied.failed.iter().map(|(op, error)| (op.to_string(), error.to_string())));
        let mesh = kernel.apply_mesh(&self.mesh).await;
        failed.extend(mesh.iter().map(|(step, error)| (step.to_string(), error.to_string())));
        if let Some(step) = self.guard.take() {
            let text = step.to_string();
            if let Err(error) = kernel.apply_underlay_guard(step).await {
                failed.push((text, error.to_string()));
            }
        }
        for (what, error) in &mut self.told {
            *error = failed.iter().find(|(failed, _)| failed == what).map(|(_, error)| error.clone());
        }
    }
}

/// What is nobody's, in one line each, as far as it can be seen; for the `doctor` of the agent with this run directory, whose
/// networks may be mounted where it does not see them itself.
pub(super) async fn leftovers(own: &Path) -> Result<Vec<String>, KernelError> {
    let found = cleanup(&[own.to_owned()], false).await?;
    Ok(found.leftovers.into_iter().map(|found| found.what).collect())
}
