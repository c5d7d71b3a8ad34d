//! The agent's own process, by the names that all programs have for it.

use std::time::Instant;

use crate::clock::now_ms;
use crate::metrics::{Collect, Page};

/// What the kernel says of this process; nothing of what cannot be read.
pub struct Process {
    /// In seconds since 1970.
    started: f64,
    /// In seconds.
    cpu: Option<f64>,
    /// In bytes.
    resident: Option<u64>,
    descriptors: Option<usize>,
}

impl Process {
    /// As it is now; the agent began at `started`.
    pub fn now(started: Instant) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let spent = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).ok();
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        Self {
            started: now_ms() as f64 / 1000.0 - started.elapsed().as_secs_f64(),
            cpu: spent.map(|spent| seconds(spent.user_time()) + seconds(spent.system_time())),
            resident: resident(&status),
            descriptors: std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
        }
    }
}

/// In bytes, of the text of `/proc/PID/status` (proc_pid_status(5)).
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

impl Collect for Process {
    fn collect(&self, page: &mut Page) {
        let version = env!("CARGO_PKG_VERSION");
        page.gauge("lanmesh_build_info", "Always 1; the label has the agent's version.")
            .sample(&[("version", version)], 1);
        page.gauge("process_start_time_seconds", "When the agent began, in seconds since 1970.")
            .value(self.started);
        let mut cpu = page.counter("process_cpu_seconds_total", "Processor time that the agent took.");
        self.cpu.into_iter().for_each(|seconds| cpu.value(seconds));
        let mut resident = page.gauge("process_resident_memory_bytes", "Memory of the agent that is in use.");
        self.resident.into_iter().for_each(|bytes| resident.value(bytes));
        let mut open = page.gauge("process_open_fds", "File descriptors of the agent that are open.");
        self.descriptors.into_iter().for_each(|count| open.value(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_this_process_is_read() {
        assert_eq!(resident("VmPeak:\t 9 kB\nVmRSS:\t    12 kB\n"), Some(12_288));
        assert_eq!(resident("VmPeak:\t 9 kB\n"), None);
        let now = Process::now(Instant::now());
        assert!(now.cpu.is_some() && now.resident > Some(4096) && now.descriptors > Some(2));
        assert!((now.started - now_ms() as f64 / 1000.0).abs() < 10.0);
    }
}
