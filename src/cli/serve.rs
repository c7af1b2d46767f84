//! `kura serve`

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::{End, Failure};
use crate::config::Config;

#[derive(clap::Args)]
pub struct Serve {
    /// A move destination without a configuration file: AE@HOST:PORT (may be repeated)
    #[arg(long, value_name = "AE@HOST:PORT")]
    peer: Vec<String>,
    /// Log every message of every association (for a fault; may show identifiers)
    #[arg(long)]
    trace_association: bool,
    /// TCP port of the administrator's page: a number, 0 for any that is free, or off
    #[arg(long, value_name = "PORT")]
    admin_port: Option<String>,
}

pub fn run(verb: Serve, mut config: Config) -> Result<End, Failure> {
    for peer in &verb.peer {
        config.add_peer(peer)?;
    }
    if let Some(port) = &verb.admin_port {
        config.admin.set_port(port)?;
    }
    let default = if verb.trace_association {
        "info,association=trace"
    } else {
        "info"
    };
    let filter = EnvFilter::try_from_env("KURA_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    crate::server::serve(config, verb.trace_association)?;
    Ok(End::Ok)
}
