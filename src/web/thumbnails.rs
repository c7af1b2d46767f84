//! `/thumbnails/…`: a small picture of a series or an instance, made when it is asked for and kept in memory for a while.
//!
//! What cannot be shown is an icon, and no error: the page around it is about more than pictures.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::Site;
use super::access::Caller;
use crate::archive::{Pictured, Selected, Selection};
use crate::control::audited;
use crate::sending::thumbnail;

/// Pixels in width and height that can be asked for with `?size=`; the first where nothing, or anything else, is.
const SIZES: [u16; 3] = [160, 80, 320];
/// Longest UID that is looked for, bytes: broken ones are a little longer than the standard's 64.
const UID_LENGTH_MAX: usize = 128;
/// Pictures in memory, bytes.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// What a picture counts besides its bytes.
const ENTRY_COST: usize = 256;
/// So long a request waits for others' pictures; then it gets an icon.
const WAIT: Duration = Duration::from_secs(30);

const NO_PICTURE: &str = include_str!("assets/no-picture.svg");
const DOCUMENT: &str = include_str!("assets/document.svg");

/// A series grows while it is received, and another picture is its middle then.
const FRESH: &str = "private, max-age=60";
/// It may be decodable the next time.
const PASSING: &str = "private, no-cache";

/// Pictures that were made, and how many are being made.
pub struct Thumbnails {
    kept: Mutex<Kept>,
    places: Arc<Semaphore>,
}

impl Default for Thumbnails {
    fn default() -> Thumbnails {
        Thumbnails {
            kept: Mutex::default(),
            places: Arc::new(Semaphore::new(thumbnail::AT_ONCE_MAX)),
        }
    }
}

impl Thumbnails {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A content and a size; the same content is always the same picture.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Which {
    sop_instance_uid: String,
    crc32: u32,
    length: u64,
    edge: u16,
}

/// The least recently used go first.
#[derive(Default)]
struct Kept {
    pictures: HashMap<Which, (Bytes, u64)>,
    /// By when they were last used.
    order: BTreeMap<u64, Which>,
    uses: u64,
    bytes: usize,
}

impl Kept {
    fn get(&mut self, which: &Which) -> Option<Bytes> {
        let (picture, used) = self.pictures.get_mut(which)?;
        self.order.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.order.insert(self.uses, which.clone());
        Some(picture.clone())
    }

    fn put(&mut self, which: Which, picture: Bytes) {
        self.forget(&which);
        self.uses += 1;
        self.bytes += picture.len() + ENTRY_COST;
        self.order.insert(self.uses, which.clone());
        self.pictures.insert(which, (picture, self.uses));
        while self.bytes > KEPT_BYTES_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, which: &Which) {
        if let Some((picture, used)) = self.pictures.remove(which) {
            self.order.remove(&used);
            self.bytes -= picture.len() + ENTRY_COST;
        }
    }
}

pub fn routes() -> Router<Site> {
    Router::new()
        .route("/thumbnails/{series_instance_uid}", get(of_series))
        .route("/thumbnails/instance/{sop_instance_uid}", get(of_instance))
}

#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(default)]
    size: Option<String>,
}

impl Wanted {
    fn edge(&self) -> u16 {
        let wanted = self.size.as_ref().and_then(|size| size.parse().ok());
        wanted
            .filter(|size| SIZES.contains(size))
            .unwrap_or(SIZES[0])
    }
}

async fn of_series(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(uid): Path<String>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let found = look_up(&site, uid, |uid| Selection::Series(vec![uid])).await;
    shown(&site, &caller, found, wanted.edge(), &headers).await
}

async fn of_instance(
    State(site): State<Site>,
    Extension(caller): Extension<Caller>,
    Path(uid): Path<String>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let found = look_up(&site, uid, |uid| Selection::Instances(vec![uid])).await;
    shown(&site, &caller, found, wanted.edge(), &headers).await
}

/// `None`: it cannot be said now.
async fn look_up(site: &Site, uid: String, of: fn(String) -> Selection) -> Option<Pictured> {
    if uid.len() > UID_LENGTH_MAX || uid.contains(char::is_control) {
        return Some(Pictured::Unknown);
    }
    let archive = site.desk.archive.clone();
    let found = site.blocking(move || archive.pictured(&of(uid))).await;
    match found {
        Ok(Ok(found)) => Some(found),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no thumbnail");
            None
        }
        Err(_) => None,
    }
}

async fn shown(
    site: &Site,
    caller: &Caller,
    found: Option<Pictured>,
    edge: u16,
    headers: &HeaderMap,
) -> Response {
    let instance = match found {
        Some(Pictured::Instance(instance)) => *instance,
        Some(Pictured::NoImage) => return icon(DOCUMENT, FRESH),
        Some(Pictured::Unknown) => return StatusCode::NOT_FOUND.into_response(),
        None => return icon(NO_PICTURE, PASSING),
    };
    audited::looked(&site.desk.audit, &caller.who, &instance.study_instance_uid);
    let which = Which {
        sop_instance_uid: instance.sop_instance_uid.clone(),
        crc32: instance.crc32,
        length: instance.length,
        edge,
    };
    let tag = format!("\"{:08x}-{:x}-{edge}\"", which.crc32, which.length);
    let known = headers.get(header::IF_NONE_MATCH);
    if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, tagged(tag)).into_response();
    }
    match picture(site, instance, which).await {
        Some(picture) => {
            let kind = [(header::CONTENT_TYPE, "image/png")];
            (kind, tagged(tag), picture).into_response()
        }
        None => icon(NO_PICTURE, PASSING),
    }
}

fn tagged(tag: String) -> [(HeaderName, String); 2] {
    [
        (header::CACHE_CONTROL, FRESH.to_owned()),
        (header::ETAG, tag),
    ]
}

fn icon(text: &'static str, fresh: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CACHE_CONTROL, fresh),
    ];
    (headers, text).into_response()
}

/// Kept, or made now. Not in a place of `Site`: pages do not wait for pictures.
async fn picture(site: &Site, instance: Selected, which: Which) -> Option<Bytes> {
    let thumbnails = &site.thumbnails;
    if let Some(picture) = thumbnails.kept().get(&which) {
        return Some(picture);
    }
    let place = thumbnails.places.clone().acquire_owned();
    let place = tokio::time::timeout(WAIT, place).await.ok()?.ok()?;
    // Somebody may have waited for the same one.
    if let Some(picture) = thumbnails.kept().get(&which) {
        return Some(picture);
    }
    let (archive, edge) = (site.desk.archive.clone(), which.edge);
    let made = tokio::task::spawn_blocking(move || {
        let _place = place;
        thumbnail::picture(&archive, &instance, edge)
    });
    match made.await {
        Ok(Ok(picture)) => {
            let picture = Bytes::from(picture);
            thumbnails.kept().put(which, picture.clone());
            Some(picture)
        }
        Ok(Err(reason)) => {
            let sop_instance_uid = &which.sop_instance_uid;
            tracing::debug!(sop_instance_uid, reason, "no thumbnail");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(number: usize) -> Which {
        Which {
            sop_instance_uid: format!("2.25.{number}"),
            crc32: 0,
            length: 0,
            edge: 160,
        }
    }

    #[test]
    fn pictures_are_kept_within_bounds_and_those_in_use_longest() {
        let mut kept = Kept::default();
        let megabyte = Bytes::from(vec![0; 1 << 20]);
        for number in 0..200 {
            kept.put(which(number), megabyte.clone());
            assert!(kept.get(&which(0)).is_some(), "{number}");
            assert!(kept.bytes <= KEPT_BYTES_MAX);
            assert_eq!(kept.order.len(), kept.pictures.len());
        }
        assert_eq!(kept.pictures.len(), 63);
        assert!(kept.get(&which(199)).is_some());
        assert!(kept.get(&which(100)).is_none());
        kept.put(which(199), megabyte);
        assert_eq!(kept.pictures.len(), 63);
    }
}
