//! Which copies count: how safe a content is now, and what it still needs.

use std::collections::HashMap;
use std::sync::Arc;

use crate::volume::device::{Disks, Shared, share};
use crate::volume::layout::Role;
use crate::volume::{Volume, VolumeState};

use super::{Archive, Line};

/// The shelf at one moment, as copies are judged by it.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    places: HashMap<String, Place>,
    allow_same_device: bool,
    has_mirror: bool,
    /// What has one copy left is to get another on a mirror volume.
    mirrors_only: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Place {
    role: Role,
    /// Can be read now.
    here: bool,
    /// Its disk was given up: what was on it does not count.
    replaced: bool,
    /// Takes copies.
    takes: bool,
    disks: Option<Disks>,
}

/// What a content needs to have a good copy on an archive volume and one on a mirror volume, or two on mirror volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    Nothing,
    /// A copy on a mirror volume.
    Mirror,
    /// Of its copies one on a mirror volume is left.
    Archive,
    /// There is no good copy to make another from.
    Lost,
}

/// How safe a content is at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safe {
    /// Two good copies can be read, on two disks.
    Two,
    /// Two good copies can be read, but one disk holds both, or it is not known to be two.
    OneDisk,
    One,
    /// No good copy can be read now; there is one on a volume that is away.
    Away,
    Lost,
}

impl Judge {
    pub fn need(&self, volume_ids: &[String]) -> Need {
        let counting = || self.counting(volume_ids);
        let on = |role: Role| counting().any(|place| place.role == role);
        match (on(Role::Archive), on(Role::Mirror)) {
            (false, false) => Need::Lost,
            // As retention leaves it.
            (false, true) if self.apart(&counting().collect::<Vec<_>>()) => Need::Nothing,
            (false, true) if self.mirrors_only => Need::Mirror,
            // It had left the archive volumes; an archive volume has no room for what a whole mirror held.
            (false, true) if self.was_only_on_mirrors(volume_ids) => Need::Mirror,
            (false, true) => Need::Archive,
            (true, false) if self.has_mirror => Need::Mirror,
            (true, false) => Need::Nothing,
            // A disk for it alone has come since.
            (true, true) if !self.apart(&counting().collect::<Vec<_>>()) => {
                match self.has_other_disk(volume_ids) {
                    true => Need::Mirror,
                    false => Need::Nothing,
                }
            }
            (true, true) => Need::Nothing,
        }
    }

    pub fn safe(&self, volume_ids: &[String]) -> Safe {
        let here: Vec<&Place> = self.counting(volume_ids).filter(|p| p.here).collect();
        match here.len() {
            0 if self.counting(volume_ids).next().is_some() => Safe::Away,
            0 => Safe::Lost,
            1 => Safe::One,
            _ if self.apart(&here) => Safe::Two,
            _ => Safe::OneDisk,
        }
    }

    /// Whether a volume that holds one of them was given up.
    pub fn was_on_replaced(&self, volume_ids: &[String]) -> bool {
        let mut places = volume_ids.iter().filter_map(|id| self.places.get(id));
        places.any(|place| place.replaced)
    }

    /// Good copies that count, here or away.
    pub fn good_count(&self, volume_ids: &[String]) -> usize {
        self.counting(volume_ids).count()
    }

    /// As if the disk of a volume was given up now.
    pub fn without(&self, volume_id: &str) -> Judge {
        let mut judge = self.clone();
        if let Some(place) = judge.places.get_mut(volume_id) {
            (place.replaced, place.takes) = (true, false);
        }
        judge
    }

    /// As if a volume had no copies any more, and others are to be on mirror volumes.
    pub fn leaving(&self, volume_id: &str) -> Judge {
        Judge {
            mirrors_only: true,
            ..self.without(volume_id)
        }
    }

    /// Whether they have copies on mirror volumes of which one was given up, and another would take them.
    fn was_only_on_mirrors(&self, volume_ids: &[String]) -> bool {
        let mut places = volume_ids.iter().filter_map(|id| self.places.get(id));
        places.all(|place| place.role == Role::Mirror)
            && self.was_on_replaced(volume_ids)
            && self.has_other_disk(volume_ids)
    }

    /// Whether a volume can be read or written now that could not be before.
    pub fn has_more_than(&self, before: &Judge) -> bool {
        self.places.iter().any(|(id, place)| {
            let was = before.places.get(id);
            (place.here && was.is_none_or(|was| !was.here))
                || (place.takes && was.is_none_or(|was| !was.takes))
        })
    }

    /// Whether with a copy on `target` the content would be on two disks.
    pub fn is_apart_from(&self, target: &str, volume_ids: &[String]) -> bool {
        let Some(target) = self.places.get(target) else {
            return false;
        };
        self.counting(volume_ids)
            .any(|place| self.two_disks(target, place))
    }

    fn counting(&self, volume_ids: &[String]) -> impl Iterator<Item = &Place> {
        let places = volume_ids.iter().filter_map(|id| self.places.get(id));
        places.filter(|place| !place.replaced)
    }

    /// Whether any two of them are on two disks.
    fn apart(&self, places: &[&Place]) -> bool {
        let mut pairs = places
            .iter()
            .enumerate()
            .flat_map(|(at, a)| places[at + 1..].iter().map(move |b| (*a, *b)));
        pairs.any(|(a, b)| self.two_disks(a, b))
    }

    fn two_disks(&self, a: &Place, b: &Place) -> bool {
        if self.allow_same_device {
            return true;
        }
        match (&a.disks, &b.disks) {
            (Some(a), Some(b)) => share(a, b) == Shared::No,
            // One that is away is not in the same place as one that is here.
            _ => true,
        }
    }

    fn has_other_disk(&self, volume_ids: &[String]) -> bool {
        self.places.iter().any(|(id, place)| {
            place.role == Role::Mirror
                && place.takes
                && !volume_ids.contains(id)
                && self.is_apart_from(id, volume_ids)
        })
    }

    /// Mirror volumes that share a disk with each archive volume that is here: copies there are copies, but not safe.
    pub fn mirrors_without_a_disk_of_their_own(&self) -> Vec<String> {
        let archive = |place: &&Place| place.role == Role::Archive && place.here;
        let mirrors = self.places.iter().filter(|(_, place)| {
            place.role == Role::Mirror
                && place.here
                && self.places.values().any(|other| archive(&other))
                && !self
                    .places
                    .values()
                    .filter(archive)
                    .any(|other| self.two_disks(place, other))
        });
        let mut ids: Vec<String> = mirrors.map(|(id, _)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    pub fn has_mirror(&self) -> bool {
        self.has_mirror
    }
}

impl Archive {
    pub(super) fn judge(&self) -> Judge {
        let mut places = HashMap::new();
        for member in self.shelf.all() {
            let replaced = self.is_given_up(&member.volume_id);
            let trusted =
                |volume: &&Arc<Volume<Line>>| volume.answers() && !self.suspects.is_failing(volume);
            let here = member.here().filter(trusted);
            let disks = here.and_then(|volume| volume.disks().ok());
            let takes = here.is_some_and(|volume| volume.state() == VolumeState::Ok);
            let place = Place {
                role: member.role,
                here: here.is_some(),
                replaced,
                takes: takes && !member.retired && !replaced,
                disks,
            };
            places.insert(member.volume_id.clone(), place);
        }
        Judge {
            has_mirror: places
                .values()
                .any(|place| place.role == Role::Mirror && !place.replaced),
            places,
            allow_same_device: self.mirror_config.now().allow_same_device,
            mirrors_only: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(role: Role, disk: &str) -> Place {
        Place {
            role,
            here: true,
            replaced: false,
            takes: true,
            disks: Some(Disks {
                names: [disk.to_owned()].into(),
                known: disk != "?",
            }),
        }
    }

    fn judge(places: Vec<(&str, Place)>) -> Judge {
        let places: HashMap<_, _> = places
            .into_iter()
            .map(|(id, place)| (id.to_owned(), place))
            .collect();
        Judge {
            has_mirror: places.values().any(|place| place.role == Role::Mirror),
            places,
            allow_same_device: false,
            mirrors_only: false,
        }
    }

    fn ids(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_content_is_safe_on_two_disks_and_needs_what_is_missing() {
        let mut away = place(Role::Archive, "x");
        (away.here, away.disks) = (false, None);
        let mut dead = place(Role::Archive, "d");
        (dead.here, dead.replaced) = (false, true);
        let mut away_mirror = place(Role::Mirror, "y");
        (away_mirror.here, away_mirror.disks) = (false, None);
        let mut dead_mirror = place(Role::Mirror, "e");
        (dead_mirror.here, dead_mirror.replaced) = (false, true);
        let judge = judge(vec![
            ("a", place(Role::Archive, "1")),
            ("b", place(Role::Archive, "2")),
            ("m", place(Role::Mirror, "3")),
            ("n", place(Role::Mirror, "1")),
            ("u", place(Role::Mirror, "?")),
            ("away", away),
            ("dead", dead),
            ("away-mirror", away_mirror),
            ("dead-mirror", dead_mirror),
        ]);
        for (on, safe, need) in [
            ("a m", Safe::Two, Need::Nothing),
            ("a b", Safe::Two, Need::Mirror),
            ("a", Safe::One, Need::Mirror),
            ("m", Safe::One, Need::Archive),
            ("", Safe::Lost, Need::Lost),
            ("dead", Safe::Lost, Need::Lost),
            ("dead m", Safe::One, Need::Archive),
            ("away", Safe::Away, Need::Mirror),
            ("away m", Safe::One, Need::Nothing),
            // One disk, and another would take it.
            ("a n", Safe::OneDisk, Need::Mirror),
            ("a n m", Safe::Two, Need::Nothing),
            ("a u", Safe::OneDisk, Need::Mirror),
            ("nobody", Safe::Lost, Need::Lost),
            // They left the archive volumes.
            ("m n", Safe::Two, Need::Nothing),
            ("away-mirror m", Safe::One, Need::Nothing),
            ("dead-mirror m", Safe::One, Need::Mirror),
        ] {
            assert_eq!(judge.safe(&ids(on)), safe, "{on}");
            assert_eq!(judge.need(&ids(on)), need, "{on}");
        }
    }

    #[test]
    fn what_leaves_a_volume_needs_two_copies_on_mirror_volumes() {
        let judge = judge(vec![
            ("a", place(Role::Archive, "1")),
            ("m", place(Role::Mirror, "2")),
            ("n", place(Role::Mirror, "3")),
        ]);
        let leaving = judge.leaving("a");
        for (on, safe, need) in [
            ("a", Safe::Lost, Need::Lost),
            ("a m", Safe::One, Need::Mirror),
            ("a m n", Safe::Two, Need::Nothing),
        ] {
            assert_eq!(leaving.safe(&ids(on)), safe, "{on}");
            assert_eq!(leaving.need(&ids(on)), need, "{on}");
        }
    }

    #[test]
    fn without_a_mirror_volume_nothing_is_missing() {
        let judge = judge(vec![("a", place(Role::Archive, "1"))]);
        assert_eq!(judge.need(&ids("a")), Need::Nothing);
        assert_eq!(judge.safe(&ids("a")), Safe::One);
    }

    #[test]
    fn a_mirror_on_the_archives_disk_is_no_second_disk() {
        let judge = judge(vec![
            ("a", place(Role::Archive, "1")),
            ("m", place(Role::Mirror, "1")),
        ]);
        assert_eq!(judge.need(&ids("a")), Need::Mirror);
        assert_eq!(judge.need(&ids("a m")), Need::Nothing);
        assert_eq!(judge.safe(&ids("a m")), Safe::OneDisk);
        assert_eq!(judge.mirrors_without_a_disk_of_their_own(), ["m"]);
    }
}
