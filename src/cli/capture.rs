//! `lanmesh capture`: frames of an endpoint or a network, for programs that read pcap.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroU64;
use std::path::PathBuf;

use super::{CliError, Context};
use crate::api::types::CaptureQuery;
use crate::capture::{Filter, SNAPLEN};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An endpoint of any node (NETWORK/NAME where several networks have it), or a network: what comes into it on this node
    #[arg(value_name = "ENDPOINT|NETWORK")]
    of: String,
    /// Only such frames: words of pcap-filter(7), as `udp port 53 and host 10.10.0.7`
    filter: Vec<String>,
    /// Write to this file, and not to standard output
    #[arg(long, short, value_name = "FILE")]
    write: Option<PathBuf>,
    /// End after so many frames
    #[arg(long, short, value_name = "N")]
    count: Option<NonZeroU64>,
    /// End after so many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<NonZeroU64>,
    /// Keep so many bytes of each frame
    #[arg(long, short, value_name = "BYTES", default_value_t = SNAPLEN, value_parser = clap::value_parser!(u32).range(64..=i64::from(SNAPLEN)))]
    snaplen: u32,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let filter: Filter =
        args.filter.join(" ").parse().map_err(|error| CliError::Usage(format!("the filter: {error}")))?;
    if args.write.is_none() && io::stdout().is_terminal() {
        return Err(CliError::Usage(
            "this is for programs, and not for a terminal: give --write FILE, or pipe it, as into `wireshark -k -i -`".to_owned(),
        ));
    }
    let query = CaptureQuery {
        of: args.of.clone(),
        filter,
        snaplen: args.snaplen,
        count: args.count,
        seconds: args.seconds,
    };
    let mut stream = context.client.capture(&query).await?;
    let failed = |source| CliError::Io { what: "cannot write the capture".to_owned(), source };
    let mut out: Box<dyn Write> = match &args.write {
        Some(path) => Box::new(File::create(path).map_err(failed)?),
        None => Box::new(io::stdout().lock()),
    };
    while let Some(bytes) = stream.next().await? {
        match out.write_all(&bytes).and_then(|()| out.flush()) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(failed)?,
        }
    }
    if stream.lost > 0 {
        eprintln!("lanmesh: {} frames were lost: give a filter, or a smaller --snaplen", stream.lost);
    }
    match stream.why {
        Some(why) => Err(CliError::Other(format!("the capture ended early: {why}"))),
        None => Ok(()),
    }
}
