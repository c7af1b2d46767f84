//! The proof that recovery would work: for each disaster an index is made from the ledgers of what would be left, held
//! against the living one content by content, and some files are read to their end. Nothing of the archive is changed.
//!
//! A side is compared with a snapshot of the index, and each ledger is read up to where that snapshot has come in it: what
//! is stored meanwhile is in neither, so the two must agree exactly.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::index::{Copy, IndexError, Snapshot};
use crate::volume::io::Disk;
use crate::volume::layout::Role;
use crate::volume::{Position, Volume};

use super::content::{Content, contents};
use super::drill_report::{BadFile, Counts, DrillReport, LISTED_MAX, Missing, Sampled, Side};
use super::keeper::Source;
use super::safety::Safe;
use super::scratch::{self, Extent, Scratch};
use super::shelf::Member;
use super::work::{Job, Stop};
use super::{Archive, Line, at_rest, keeper, now, state};

/// In the state folder.
const REPORTS_FOLDER: &str = "reports";

/// A disaster: who is left.
struct Plan {
    name: String,
    left: Vec<Arc<Member>>,
}

/// A file that was chosen to be read.
struct Chosen {
    sop_instance_uid: String,
    copy: Copy,
}

impl Archive {
    pub(super) fn drill(&self, sample: u32, seed: Option<u64>, job: &Job) -> Result<(), Stop> {
        let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        let mut report = DrillReport {
            version: 1,
            archive_id: self.identity().archive_id.clone(),
            begun: now(),
            sample,
            seed,
            ..DrillReport::default()
        };
        let mut members = self.shelf.all();
        members.retain(|member| !self.is_replaced(&member.volume_id));
        for plan in plans(&members) {
            let side = self.drill_side(plan, &members, job)?;
            report.sides.push(side);
        }
        self.drill_samples(&members, job, &mut report)?;
        report.ended = now();
        report.conclude();
        self.drill_actions(&members, &mut report);
        let written = self.write_drill(&mut report);
        job.drilled(report);
        written
    }

    /// What is known from the ledgers of the volumes that are left, held against the index.
    fn drill_side(&self, plan: Plan, members: &[Arc<Member>], job: &Job) -> Result<Side, Stop> {
        let mut side = Side {
            name: plan.name,
            volumes: plan.left.iter().map(|member| member.name.clone()).collect(),
            ..Side::default()
        };
        // One a side and not one for all: the engine keeps every page that is replaced while it is held.
        // Whole first, so that senders wait only for what is in the journals.
        self.whole_index(job)?;
        let live = self.with_all_listed(|| self.whole_index(job))?;
        let totals = live.totals()?;
        job.step(
            format!("{}: reading ledgers", side.name),
            totals.instances * plan.left.len() as u64,
        );
        let scratch = match plan.left.is_empty() {
            true => None,
            false => Some(Scratch::new(&self.state)?),
        };
        if let Some(scratch) = &scratch {
            for member in &plan.left {
                let upto = live.position(&member.volume_id)?;
                let upto = upto.and_then(|bytes| keeper::decode(&bytes));
                let upto = upto.unwrap_or_default();
                let note = read_ledger(scratch, member, &plan.left, upto, job)?;
                side.notes.extend(note);
            }
        }
        job.step(format!("{}: comparing", side.name), totals.instances);
        let known = scratch.as_ref().map(Scratch::snapshot).transpose()?;
        let mut compared = Compared {
            here: ids(&plan.left, true),
            away: ids(&plan.left, false),
            names: names(members),
            side: &mut side,
            found_count: 0,
            others: Vec::new(),
        };
        let mut failed = None;
        live.all_instances(&mut |entry| {
            job.did(1);
            let done = known
                .as_ref()
                .map(|known| known.by_sop(&entry.sop_instance_uid))
                .transpose()
                .map_err(Stop::from)
                .and_then(|found| {
                    let found = found.flatten().map(|entry| contents(&entry));
                    for content in contents(&entry) {
                        compared.content(&content, found.as_deref().unwrap_or_default());
                    }
                    job.go_on()
                });
            match done {
                Ok(()) => ControlFlow::Continue(()),
                Err(stop) => {
                    failed = Some(stop);
                    ControlFlow::Break(())
                }
            }
        })
        .inspect_err(|error| self.index_failed(error))?;
        if let Some(stop) = failed {
            return Err(stop);
        }
        let found_count = compared.end();
        side.all = counts(&live)?;
        if let Some(known) = &known {
            side.known = counts(known)?;
            side.unknown_count = contents_of(known)?.saturating_sub(found_count);
        }
        Ok(side)
    }

    /// Chooses files of each volume by lot and reads them from its medium.
    fn drill_samples(
        &self,
        members: &[Arc<Member>],
        job: &Job,
        report: &mut DrillReport,
    ) -> Result<(), Stop> {
        let judge = self.judge();
        let mut chosen = Choice::new(members, report.sample, report.seed);
        {
            let live = self.whole_index(job)?;
            job.step("choosing files".to_owned(), live.totals()?.instances);
            let mut safety: HashMap<Vec<String>, (usize, Safe)> = HashMap::new();
            live.all_instances(&mut |entry| {
                job.did(1);
                for content in contents(&entry) {
                    report.contents_count += 1;
                    let of = safety
                        .entry(content.volume_ids())
                        .or_insert_with_key(|ids| (good_places(ids, members), judge.safe(ids)));
                    match of {
                        (0, _) => report.lost_count += 1,
                        (1, _) => report.one_copy_count += 1,
                        (_, Safe::OneDisk) => report.one_disk_count += 1,
                        _ => {}
                    }
                    for copy in content.good_copies() {
                        chosen.offer(&content.sop_instance_uid, copy);
                    }
                }
                match job.go_on() {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })
            .inspect_err(|error| self.index_failed(error))?;
            job.go_on()?;
        }
        for member in members {
            let files = chosen.of(&member.volume_id);
            let mut sampled = Sampled {
                volume: member.name.clone(),
                role: role_name(member.role).to_owned(),
                state: if readable(member).is_some() {
                    "here"
                } else {
                    "away"
                }
                .to_owned(),
                ..Sampled::default()
            };
            job.step(
                format!("volume {}: reading files", member.name),
                files.len() as u64,
            );
            for file in files {
                job.go_on()?;
                let read = self.read_chosen(&member.volume_id, &file.copy, job)?;
                job.did(1);
                match read {
                    Ok(()) => sampled.good_count += 1,
                    // Moved away, or known to be bad, since it was chosen.
                    Err(_) if !self.counts_still(&file)? => continue,
                    Err(reason) => sampled.bad.push(BadFile {
                        path: file.copy.path,
                        sop_instance_uid: file.sop_instance_uid,
                        reason,
                    }),
                }
                sampled.read_count += 1;
            }
            report.volumes.push(sampled);
        }
        Ok(())
    }

    fn read_chosen(
        &self,
        volume_id: &str,
        copy: &Copy,
        job: &Job,
    ) -> Result<Result<(), String>, Stop> {
        let Some(volume) = self.shelf.here(volume_id) else {
            return Ok(Err("the volume went away".to_owned()));
        };
        let file = match volume.open_file(&copy.path) {
            Ok(file) => file,
            Err(error) => return Ok(Err(format!("cannot be opened: {error}"))),
        };
        match file.len() {
            Ok(len) if len == copy.size_bytes => {}
            Ok(len) => {
                let size = copy.size_bytes;
                return Ok(Err(format!("{len} bytes where the ledger says {size}")));
            }
            Err(error) => return Ok(Err(format!("cannot be looked at: {error}"))),
        }
        // What the memory still has of it proves nothing.
        file.forget_cached();
        match at_rest::checksums(&file, copy.data_offset, &|bytes| job.read(bytes)) {
            Ok(found) if found == (copy.crc32, copy.file_crc32) => Ok(Ok(())),
            Ok((data, file)) => Ok(Err(format!(
                "checksums {data:08x} and {file:08x} where the ledger says {:08x} and {:08x}",
                copy.crc32, copy.file_crc32
            ))),
            Err(error) => {
                job.go_on()?;
                Ok(Err(format!("cannot be read: {error}")))
            }
        }
    }

    /// Whether the file is a good copy by what the index says now.
    fn counts_still(&self, file: &Chosen) -> Result<bool, IndexError> {
        let snapshot = self.view()?.snapshot;
        let entry = snapshot.by_sop(&file.sop_instance_uid)?;
        let contents = entry.map(|entry| contents(&entry)).unwrap_or_default();
        let mut good = contents.iter().flat_map(Content::good_copies);
        Ok(good.any(|copy| *copy == file.copy))
    }

    fn drill_actions(&self, members: &[Arc<Member>], report: &mut DrillReport) {
        let mut actions = Vec::new();
        for volume in report
            .volumes
            .iter()
            .filter(|volume| !volume.bad.is_empty())
        {
            let name = &volume.volume;
            actions.push(format!(
                "files on {name} are not what they were; find all of them: kura volume check {name} --checksums"
            ));
        }
        let any = |of: fn(&Side) -> u64| report.sides.iter().any(|side| of(side) > 0);
        let noted = report.sides.iter().any(|side| !side.notes.is_empty());
        if noted {
            actions.push(
                "a ledger is not whole; it is healed from its copies when its volume is opened: kura volume eject NAME, then kura volume return NAME"
                    .to_owned(),
            );
        } else if any(|side| side.lost_count) && report.lost_count == 0 {
            actions.push("ledgers and index differ: kura equalize".to_owned());
        }
        if report.lost_count > 0 {
            actions.push(format!(
                "{} contents have no good copy on any volume",
                report.lost_count
            ));
        }
        if any(|side| side.unknown_count) {
            actions.push("the ledgers know more than the index: kura index rebuild".to_owned());
        }
        if report.one_disk_count > 0 {
            actions.push(format!(
                "{} contents have their copies on one physical disk: give the mirror a disk of its own",
                report.one_disk_count
            ));
        }
        if any(|side| side.waiting_count) {
            actions.push(match members.iter().any(|m| m.role == Role::Mirror) {
                true => "what waits for its second copy: kura mirror status; to copy now: kura mirror run",
                false => "there is no second copy without a mirror volume: kura volume add NAME PATH --role mirror",
            }
            .to_owned());
        }
        for member in members.iter().filter(|m| readable(m).is_none()) {
            let name = &member.name;
            actions.push(format!(
                "volume {name} is away and was not read: mount it, and run kura drill again"
            ));
        }
        report.actions = actions;
    }

    fn write_drill(&self, report: &mut DrillReport) -> Result<(), Stop> {
        let folder = self.state.join(REPORTS_FOLDER);
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let name = format!("drill-{time}");
        report.file = folder.join(&name).display().to_string();
        let disk = Disk::default();
        let put = |ending: &str, bytes: &[u8]| {
            let path: PathBuf = folder.join(format!("{name}.{ending}"));
            state::replace(&disk, &path, bytes)
        };
        let json = serde_json::to_vec_pretty(report).map_err(std::io::Error::other);
        disk.create_dir_durable(&folder)
            .and_then(|()| put("txt", report.text(LISTED_MAX).as_bytes()))
            .and_then(|()| put("json", &json?))
            .map_err(|error| {
                Stop::Failed(format!(
                    "{}: {error}; the report was not written",
                    folder.display()
                ))
            })
    }
}

/// Each side alone, and each volume dead in turn; each set of volumes once.
fn plans(members: &[Arc<Member>]) -> Vec<Plan> {
    let of = |role: Role| -> Vec<Arc<Member>> {
        let side = members.iter().filter(|member| member.role == role);
        side.cloned().collect()
    };
    let (archive, mirror) = (of(Role::Archive), of(Role::Mirror));
    let mut plans: Vec<Plan> = Vec::new();
    let sides = [
        ("archive volumes alone", archive),
        ("mirror volumes alone", mirror),
    ];
    for (name, left) in sides {
        if !left.is_empty() {
            plans.push(Plan {
                name: name.to_owned(),
                left,
            });
        }
    }
    let key = |left: &[Arc<Member>]| -> Vec<String> {
        left.iter().map(|member| member.volume_id.clone()).collect()
    };
    for dead in members {
        let others = members.iter().filter(|m| m.volume_id != dead.volume_id);
        let left: Vec<Arc<Member>> = others.cloned().collect();
        let name = format!("without {}", dead.name);
        match plans.iter_mut().find(|plan| key(&plan.left) == key(&left)) {
            Some(same) => same.name = format!("{}, {name}", same.name),
            None => plans.push(Plan { name, left }),
        }
    }
    plans
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Archive => "archive",
        Role::Mirror => "mirror",
    }
}

fn names(members: &[Arc<Member>]) -> HashMap<String, String> {
    let names = members.iter();
    names
        .map(|member| (member.volume_id.clone(), member.name.clone()))
        .collect()
}

fn ids(members: &[Arc<Member>], here: bool) -> HashSet<String> {
    let which = members.iter().filter(|m| readable(m).is_some() == here);
    which.map(|member| member.volume_id.clone()).collect()
}

/// One that does not answer would hold up the drill, and proves nothing.
fn readable(member: &Member) -> Option<&Arc<Volume<Line>>> {
    member.here().filter(|volume| volume.answers())
}

/// How many volumes that were not given up have it.
fn good_places(volume_ids: &[String], members: &[Arc<Member>]) -> usize {
    let has = |member: &&Arc<Member>| volume_ids.contains(&member.volume_id);
    members.iter().filter(has).count()
}

fn counts(snapshot: &Snapshot) -> Result<Counts, IndexError> {
    let totals = snapshot.totals()?;
    Ok(Counts {
        studies: totals.studies,
        series: totals.series,
        instances: totals.instances,
    })
}

fn contents_of(snapshot: &Snapshot) -> Result<u64, IndexError> {
    let totals = snapshot.totals()?;
    Ok(totals.instances + totals.variants + totals.conflicts)
}

/// Takes in the ledger of a volume as one who has only the volumes that are left: from itself; where it is not whole, or
/// its volume is away, with what its copies on the others say. A note where something is wrong.
fn read_ledger(
    scratch: &Scratch,
    member: &Member,
    left: &[Arc<Member>],
    upto: Position,
    job: &Job,
) -> Result<Option<String>, Stop> {
    if upto == Position::default() {
        return Ok(None);
    }
    let on = |volume: &Volume<Line>| Source {
        volume_id: member.volume_id.clone(),
        folder: volume.ledger_folder(&member.volume_id),
        disk: volume.disk().clone(),
    };
    let own = readable(member).map(|volume| on(volume));
    if let Some(own) = &own
        && scratch::extent(own, upto, job)?.is_whole(upto)
    {
        scratch.read(own, Position::default(), upto, job)?;
        return Ok(None);
    }
    let name = &member.name;
    let mut best: Option<(Extent, Source, &str)> = None;
    for other in left.iter().filter(|m| m.volume_id != member.volume_id) {
        if let Some(volume) = readable(other) {
            let copy = on(volume);
            let extent = scratch::extent(&copy, upto, job)?;
            let better = best.as_ref().is_none_or(|(best, ..)| {
                (extent.bad_lines == 0, extent.reached) > (best.bad_lines == 0, best.reached)
            });
            if better && extent.reached > Position::default() {
                best = Some((extent, copy, &other.name));
            }
        }
    }
    let Some((extent, copy, other)) = best else {
        return Ok(match own {
            Some(own) => {
                scratch.read(&own, Position::default(), upto, job)?;
                Some(format!(
                    "the ledger of {name} has lost lines, and no volume of this side has a copy"
                ))
            }
            None => Some(format!(
                "{name} is away, and no volume of this side has a copy of its ledger"
            )),
        });
    };
    scratch.read(&copy, Position::default(), upto, job)?;
    let Some(own) = own else {
        return Ok(None);
    };
    if !extent.is_whole(upto) {
        // The end, which the copy has not yet.
        scratch.read(&own, extent.reached, upto, job)?;
    }
    Ok(Some(format!(
        "the ledger of {name} has lost lines; its copy on {other} was read"
    )))
}

/// One side, while it is compared.
struct Compared<'a> {
    here: HashSet<String>,
    away: HashSet<String>,
    names: HashMap<String, String>,
    side: &'a mut Side,
    /// Contents that the ledgers of the side know at all.
    found_count: u64,
    /// Missing ones that are not lost: listed behind those that are.
    others: Vec<Missing>,
}

impl Compared<'_> {
    /// `found`: what the ledgers of the side say of its SOP Instance UID.
    fn content(&mut self, content: &Content, found: &[Content]) {
        let found = found.iter().find(|other| other.is(content));
        self.found_count += u64::from(found.is_some());
        let good = content.volume_ids();
        let good: Vec<&String> = good
            .iter()
            .filter(|id| self.names.contains_key(*id))
            .collect();
        let is_on = |volumes: &HashSet<String>| good.iter().any(|id| volumes.contains(*id));
        let says = |found: &Content| found.volume_ids().iter().any(|id| self.here.contains(id));
        let kind = if good.is_empty() {
            "lost"
        } else if is_on(&self.here) {
            if found.is_some_and(says) {
                self.side.recovered_count += 1;
                return;
            }
            "lost"
        } else if is_on(&self.away) {
            "away"
        } else {
            "waiting"
        };
        let on = good.iter().filter_map(|id| self.names.get(*id).cloned());
        let missing = Missing {
            kind: kind.to_owned(),
            sop_instance_uid: content.sop_instance_uid.clone(),
            study_instance_uid: content.study_instance_uid.clone(),
            series_instance_uid: content.series_instance_uid.clone(),
            on: on.collect(),
        };
        let list = match kind {
            "lost" => {
                self.side.lost_count += 1;
                &mut self.side.missing
            }
            "away" => {
                self.side.away_count += 1;
                &mut self.others
            }
            _ => {
                self.side.waiting_count += 1;
                &mut self.others
            }
        };
        if list.len() < LISTED_MAX {
            list.push(missing);
        }
    }

    fn end(self) -> u64 {
        self.side.missing.extend(self.others);
        self.side.missing.truncate(LISTED_MAX);
        self.found_count
    }
}

/// Files of each volume, every one with the same chance, from a stream of all.
struct Choice {
    by_volume: HashMap<String, (u64, Vec<Chosen>)>,
    most: usize,
    random: u64,
}

impl Choice {
    fn new(members: &[Arc<Member>], sample: u32, seed: u64) -> Choice {
        let here = members.iter().filter(|m| readable(m).is_some());
        Choice {
            by_volume: here
                .map(|member| (member.volume_id.clone(), (0, Vec::new())))
                .collect(),
            most: sample as usize,
            // Zero would stay zero.
            random: seed | 1,
        }
    }

    fn offer(&mut self, sop_instance_uid: &str, copy: &Copy) {
        let Some((seen, files)) = self.by_volume.get_mut(&copy.volume_id) else {
            return;
        };
        *seen += 1;
        let chosen = || Chosen {
            sop_instance_uid: sop_instance_uid.to_owned(),
            copy: copy.clone(),
        };
        if files.len() < self.most {
            files.push(chosen());
            return;
        }
        // xorshift64*: as good as it takes, and the same again from the same seed.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let place = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) % *seen;
        if let Some(file) = files.get_mut(place as usize) {
            *file = chosen();
        }
    }

    /// By path: the disk's arm goes one way.
    fn of(&mut self, volume_id: &str) -> Vec<Chosen> {
        let (_, mut files) = self.by_volume.remove(volume_id).unwrap_or_default();
        files.sort_by(|a, b| a.copy.path.cmp(&b.copy.path));
        files
    }
}
