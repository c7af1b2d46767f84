//! `kura init`: a commented configuration to begin from, or the one of an archive of which there are only the disks.

use std::path::{Path, PathBuf};

use super::output;
use super::{End, Failure};
use crate::archive::{AwayVolume, FoundVolume, FromDisks, from_disks};
use crate::config::{self, Config, RoleName, VolumeEntry, conquest};
use crate::volume::layout::Role;

#[derive(clap::Args)]
pub struct Init {
    /// Where to write it
    #[arg(default_value = "kura.toml")]
    file: PathBuf,
    /// The disks of an archive whose machine was lost: its volumes are written down, and the first `kura serve` reads the
    /// index in from their ledgers
    #[arg(long, num_args = 1.., value_name = "PATH")]
    from: Vec<PathBuf>,
    /// The folder of a Conquest server: AE title, port, devices and peers are taken from its dicom.ini and acrnema.map
    #[arg(long, value_name = "FOLDER", conflicts_with = "from")]
    conquest: Option<PathBuf>,
}

pub fn run(verb: &Init, json: bool) -> Result<End, Failure> {
    let file = &verb.file;
    let not_written = |error: &dyn std::fmt::Display| {
        Failure::from(format!("{}: {error}; it was not written", file.display()))
    };
    if !verb.from.is_empty() {
        let absolute = std::path::absolute(file)?;
        let paths = verb.from.iter().map(std::path::absolute);
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        let found = from_disks(&paths, &config::template_state(&absolute))
            .map_err(|error| format!("{error}; nothing was written"))?;
        config::write_template_with(&absolute, &entries(&found))
            .map_err(|error| not_written(&error))?;
        return said(file, &found, json);
    }
    if let Some(folder) = &verb.conquest {
        let taken =
            conquest::read(folder).map_err(|reason| format!("{reason}; nothing was written"))?;
        conquest::write(&std::path::absolute(file)?, &taken)
            .map_err(|error| not_written(&error))?;
        return said_conquest(file, &taken, json);
    }
    config::write_template(file).map_err(|error| not_written(&error))?;
    if json {
        output::json(&serde_json::json!({ "version": 1, "written": file }));
    } else {
        output::line(&format!(
            "written: {}\n{}",
            output::plain(&file.display().to_string()),
            first_minutes(file)?
        ));
    }
    Ok(End::Ok)
}

/// What to do with a new configuration, from here to the first image.
fn first_minutes(file: &Path) -> Result<String, Failure> {
    let config = Config::load(Some(file))?;
    let (title, port) = (&config.ae_title, config.port);
    let serve = match file == Path::new("kura.toml") {
        true => "kura serve".to_owned(),
        false => format!(
            "kura serve --config {}",
            output::plain(&file.display().to_string())
        ),
    };
    let page = match config.admin.address() {
        Some(address) => format!("page     http://{address}/ in a browser of this machine\n"),
        None => String::new(),
    };
    Ok(format!(
        "action   edit it if you like (the defaults work), then: {serve}\n{page}\
         modality sends to AE title {title}, port {port}, at the address of this machine\n\
         viewer   kura peer add HOROS@192.168.1.20:11112, and it asks and fetches as a modality sends\n\
         then     kura status says whether all is well; kura doctor what of this machine stands in the way"
    ))
}

fn said_conquest(file: &Path, taken: &conquest::Taken, json: bool) -> Result<End, Failure> {
    if json {
        let mut value = serde_json::to_value(taken)?;
        value["version"] = 1.into();
        value["written"] = file.display().to_string().into();
        output::json(&value);
        return Ok(End::Ok);
    }
    let mut text = format!("written: {}\n", file.display());
    for path in &taken.files {
        text.push_str(&format!(
            "read     {}\n",
            output::plain(&path.display().to_string())
        ));
    }
    if let Some(title) = &taken.ae_title {
        text.push_str(&format!("taken    AE title {}\n", output::plain(title)));
    }
    if let Some(port) = taken.port {
        text.push_str(&format!("taken    port {port}\n"));
    }
    for peer in &taken.peers {
        let (title, host) = (output::plain(&peer.ae_title), output::plain(&peer.host));
        text.push_str(&format!("taken    peer {title} at {host}:{}\n", peer.port));
    }
    for volume in &taken.volumes {
        let (name, role) = (&volume.name, volume.role);
        let was = output::plain(&volume.was);
        text.push_str(&format!("taken    {role} volume {name}, for {was}\n"));
    }
    for left in &taken.left {
        text.push_str(&format!("left     {}\n", output::plain(left)));
    }
    if !taken.volumes.is_empty() {
        text.push_str(
            "action   each volume needs an empty folder, best on a disk of its own: edit the paths\n",
        );
    }
    if let Some(address) = Config::load(Some(file))?.admin.address() {
        text.push_str(&format!(
            "page     after the start: http://{address}/ in a browser of this machine\n"
        ));
    }
    text.push_str(
        "action   kura serve, then what Conquest has: kura adopt FOLDER where its files can be read, or kura pull\n",
    );
    output::line(text.trim_end());
    Ok(End::Ok)
}

/// Those that are here, and those that may come back to where they were.
fn entries(found: &FromDisks) -> Vec<VolumeEntry> {
    let entry = |name: &str, path: &Path, role: Role| {
        let role = match role {
            Role::Archive => RoleName::Archive,
            Role::Mirror => RoleName::Mirror,
        };
        VolumeEntry::new(name.to_owned(), path.to_owned(), role)
    };
    let here = found.volumes.iter();
    let away = found.away.iter().filter(|volume| volume.configured);
    here.map(|volume| entry(&volume.name, &volume.path, volume.role))
        .chain(away.map(|volume| entry(&volume.name, &volume.path, volume.role)))
        .collect()
}

fn said(file: &Path, found: &FromDisks, json: bool) -> Result<End, Failure> {
    if json {
        let mut value = serde_json::to_value(found)?;
        value["version"] = 1.into();
        value["written"] = file.display().to_string().into();
        output::json(&value);
    } else {
        output::line(&screen(file, found));
    }
    Ok(match found.away.is_empty() {
        true => End::Ok,
        false => End::Degraded,
    })
}

fn screen(file: &Path, found: &FromDisks) -> String {
    let away = match found.away.len() {
        0 => "none is missing".to_owned(),
        count => format!("{count} away"),
    };
    let mut text = format!(
        "written: {}\narchive  {}: {} of its volumes here, {away}\n",
        file.display(),
        output::plain(&found.archive_id),
        found.volumes.len()
    );
    text.push_str(
        "action   AE title, port and [[peer]] are the defaults: edit the file, then: kura serve\n",
    );
    for volume in found.volumes.iter().filter(|volume| volume.ejected) {
        let name = &volume.name;
        text.push_str(&format!(
            "action   {name} was ejected; after the start: kura volume return {name}\n"
        ));
    }
    for volume in &found.away {
        text.push_str(&missing(volume));
    }
    if !found
        .volumes
        .iter()
        .any(|volume| volume.role == Role::Archive)
    {
        text.push_str(
            "action   nothing can be received before there is an archive volume: kura volume add NAME PATH\n",
        );
    }
    let here = found.volumes.iter().map(row);
    let rows: Vec<Vec<String>> = here.chain(found.away.iter().map(away_row)).collect();
    text + &output::table(
        &["VOLUME", "ROLE", "STATE", "INSTANCES", "FILES", "PATH"],
        &rows,
    )
}

/// What is known of a volume that was not given, and how it comes back.
fn missing(volume: &AwayVolume) -> String {
    let name = output::plain(&volume.name);
    let known = match &volume.ledger_on {
        Some(on) => format!(
            "what is on it stays known by the copy of its ledger on {}",
            output::plain(on)
        ),
        None => "no copy of its ledger is here: what is on it alone is not known".to_owned(),
    };
    let back = match volume.adopted {
        true => format!(
            "kura adopt {}",
            output::plain(&volume.path.display().to_string())
        ),
        false => format!("kura volume relocate {name} PATH"),
    };
    format!("away     {name}: {known}; when its disk is mounted: {back}\n")
}

fn row(volume: &FoundVolume) -> Vec<String> {
    let listed = volume.listed.as_ref();
    cells(&volume.name, volume.role, "here", listed, &volume.path)
}

fn away_row(volume: &AwayVolume) -> Vec<String> {
    let listed = volume.listed.as_ref();
    cells(&volume.name, volume.role, "away", listed, &volume.path)
}

fn cells(
    name: &str,
    role: Role,
    state: &str,
    listed: Option<&crate::archive::Listed>,
    path: &Path,
) -> Vec<String> {
    let role = match role {
        Role::Archive => "archive",
        Role::Mirror => "mirror",
    };
    vec![
        output::plain(name),
        role.to_owned(),
        state.to_owned(),
        listed.map_or("-".to_owned(), |listed| listed.instances_count.to_string()),
        listed.map_or("-".to_owned(), |listed| output::bytes(listed.bytes)),
        output::plain(&path.display().to_string()),
    ]
}
