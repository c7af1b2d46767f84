//! `[admin]`: the administrator's page and the JSON API.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// TCP port of the page where none is configured.
const PORT_DEFAULT: u16 = 8112;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// False: there is no page.
    pub enabled: bool,
    /// Anything but a loopback address wants a password and a certificate.
    pub bind: IpAddr,
    /// 0: any that is free; the log says which.
    pub port: u16,
    /// PEM files. Relative to the folder of `kura.toml`.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Names by which browsers ask for the page, beside its addresses, `localhost`, and the name of the machine where it is
    /// open to the network: of a proxy in front of it, say.
    pub names: Vec<String>,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin {
            enabled: true,
            bind: IpAddr::from([127, 0, 0, 1]),
            port: PORT_DEFAULT,
            certificate: None,
            key: None,
            names: Vec::new(),
        }
    }
}

impl Admin {
    pub(super) fn check(&self) -> Result<(), String> {
        match (&self.certificate, &self.key) {
            (Some(_), None) | (None, Some(_)) => {
                Err("[admin] certificate and key go together".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Of the page, for a browser of this machine; `None`: there is none, or nobody knows its port before the start.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        let bind = match self.bind {
            any if any.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            bind => bind,
        };
        let known = self.enabled && self.port != 0;
        known.then(|| std::net::SocketAddr::new(bind, self.port))
    }

    /// `--admin-port` of `kura serve`: a number, or `off`.
    pub fn set_port(&mut self, text: &str) -> Result<(), String> {
        if text == "off" {
            self.enabled = false;
            return Ok(());
        }
        let port = text.parse();
        self.port = port.map_err(|_| format!("--admin-port {text}: a number, or off"))?;
        self.enabled = true;
        Ok(())
    }
}

pub(super) const TEMPLATE: &str = r#"
[admin]
# The administrator's page, and the JSON API: http://127.0.0.1:8112/ in a browser of this machine. false: there is none.
enabled = true
# Anything but a loopback address opens it to the network, and wants a password and a certificate.
bind = "127.0.0.1"
port = 8112
# PEM files.
# certificate = "kura.crt"
# key = "kura.key"
"#;
