//! `lanmesh ui`: the page that shows what goes on, at an address of its own for as long as the command runs, or where the agent
//! shows it.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{CliError, Context, output};
use crate::errno::InWords;
use crate::ui::{Page, Token, serve};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show it at this address [default: where the agent shows it, else 127.0.0.1 and a free port]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Open no browser
    #[arg(long)]
    no_open: bool,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<(), CliError> {
    let agents = context.client.status().await?.page;
    if let (None, Some(page)) = (args.listen, agents) {
        let url = format!("http://{}/", reached(page));
        tell(context, &url, false)?;
        return open(args, &url).map(drop);
    }
    let address = args.listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let failed = |source| CliError::Io { what: format!("cannot listen at {address}"), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    // Others on this machine reach the address too, and may not see and do at the socket what the caller may.
    let (token, text) = Token::random().map_err(|error| CliError::Other(error.to_string()))?;
    let url = format!("http://{}/#token={text}", reached(address));
    tell(context, &url, true)?;
    let _opened = open(args, &url)?;
    let page = Page::new(context.client.clone()).with_token(Some(token)).closed(true);
    let stop = CancellationToken::new();
    let waits = |source| CliError::Io { what: "cannot wait for signals".to_owned(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(waits)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(waits)?;
    tokio::select! {
        () = serve(listener, page, stop) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Where a browser on this machine reaches what listens there.
fn reached(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn tell(context: &Context, url: &str, here: bool) -> Result<(), CliError> {
    if context.json {
        return output::json(&serde_json::json!({ "url": url }));
    }
    let until = if here { "   (until this command is ended)" } else { "" };
    output::print(&format!("{url}{until}\n"))
}

/// Opens a browser where there is a display. The address goes by a file that nobody else reads: it has the token in it, and
/// everybody sees the arguments of processes.
fn open(args: &Args, url: &str) -> Result<Option<tempfile::TempPath>, CliError> {
    let has_display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if args.no_open || !has_display {
        return Ok(None);
    }
    let failed = |source| CliError::Io { what: "cannot open a browser".to_owned(), source };
    let mut file = tempfile::Builder::new().prefix("lanmesh-").suffix(".html").tempfile().map_err(failed)?;
    // Of characters that mean nothing in HTML.
    writeln!(file, "<!doctype html><meta http-equiv=refresh content=\"0;url={url}\"><title>lanmesh</title>")
        .map_err(failed)?;
    let path = file.into_temp_path();
    let started = Command::new("xdg-open")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match started {
        Ok(_) => Ok(Some(path)),
        Err(error) => {
            eprintln!("no browser opens ({}): open the address by hand", InWords(&error));
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_here() {
        for (listens, is_reached) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("192.0.2.1:80", "192.0.2.1:80")]
        {
            assert_eq!(reached(listens.parse().unwrap()).to_string(), is_reached);
        }
    }
}
