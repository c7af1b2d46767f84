//! Promise: every image that can be decoded has a small picture on the administrator's page; what cannot has an icon, and
//! nothing that is stored disturbs the server.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::{Duration, Instant};

use common::build::{self, CT_IMAGE_STORAGE};
use common::elements::Syntax;
use common::files::{self, Good};
use common::wire::EXPLICIT_LITTLE;
use common::{Random, Server, Settings};
use rustix::process::{Pid, Signal, kill_process};

/// Samples of files beyond this length are looked at in the long campaign only, bytes.
const SAMPLE_BYTES_MAX: usize = 300_000;
/// As is more than so many of one transfer syntax.
const SAMPLES_OF_A_SYNTAX: usize = 6;

const JPEG_LOSSLESS: &str = "1.2.840.10008.1.2.4.70";
const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";
const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
const RLE: &str = "1.2.840.10008.1.2.5";

fn server() -> Server {
    let arguments = ["--admin-port", "0"].map(str::to_owned).to_vec();
    Server::with(Settings {
        arguments,
        ..Settings::default()
    })
}

fn page(server: &Server) -> String {
    let log = server.log_text();
    let (_, rest) = log
        .rsplit_once("the administrator's page is at ")
        .expect("the address of the page in the log");
    rest.split_whitespace()
        .next()
        .unwrap_or_default()
        .trim_end_matches('/')
        .to_owned()
}

struct Answer {
    status: u16,
    kind: String,
    tag: String,
    body: Vec<u8>,
}

impl Answer {
    fn is_icon(&self) -> bool {
        (self.status, self.kind.as_str()) == (200, "image/svg+xml") && !self.body.is_empty()
    }

    fn picture(&self) -> Option<Picture> {
        (self.kind == "image/png").then(|| Picture::of(&self.body))
    }
}

fn get_with(server: &Server, path: &str, tag: Option<&str>) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(90)))
        .build()
        .into();
    let mut request = agent.get(format!("{}{path}", page(server)));
    if let Some(tag) = tag {
        request = request.header("If-None-Match", tag);
    }
    let mut response = request.call().expect("an answer of the page");
    let header = |name: &str| {
        let value = response.headers().get(name);
        value.map_or(String::new(), |value| {
            value.to_str().expect("text").to_owned()
        })
    };
    let (kind, tag) = (header("content-type"), header("etag"));
    let status = response.status().as_u16();
    let mut body = Vec::new();
    let mut reader = response.body_mut().as_reader();
    reader.read_to_end(&mut body).expect("the body");
    Answer {
        status,
        kind,
        tag,
        body,
    }
}

fn get(server: &Server, path: &str) -> Answer {
    get_with(server, path, None)
}

struct Picture {
    width: u32,
    height: u32,
    channels: usize,
    bytes: Vec<u8>,
}

impl Picture {
    fn of(bytes: &[u8]) -> Picture {
        let decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        let mut reader = decoder.read_info().expect("a PNG");
        let mut bytes = vec![0; reader.output_buffer_size().expect("a small PNG")];
        let info = reader.next_frame(&mut bytes).expect("a whole PNG");
        Picture {
            width: info.width,
            height: info.height,
            channels: info.color_type.samples(),
            bytes,
        }
    }

    fn colors(&self) -> usize {
        let pixels = self.bytes.chunks_exact(self.channels);
        pixels.collect::<BTreeSet<_>>().len()
    }
}

fn store_bytes(server: &Server, syntax: &str, sop: &str, data_set: &[u8]) {
    let mut client = server.associate(&[(1, CT_IMAGE_STORAGE, &[syntax])]);
    let stored = client.c_store(1, CT_IMAGE_STORAGE, sop, data_set);
    assert_eq!(stored.expect("C-STORE").0, 0, "{sop}");
    client.release().expect("release");
}

/// False where the server has a reason not to.
fn store(server: &Server, good: &Good) -> bool {
    let syntax = good.file.transfer_syntax.as_str();
    let mut client = server.associate(&[(1, &good.uids.sop_class, &[syntax])]);
    if client.accepted(1) != Some(syntax) {
        return false;
    }
    let (class, sop) = (&good.uids.sop_class, &good.uids.sop_instance);
    let stored = client.c_store(1, class, sop, &good.file.data_set);
    stored.is_ok_and(|(status, _)| status == 0)
}

/// Method: `testdata/` and, where present, samples of every transfer syntax. Which can be decoded is taken from the other
/// way that decoding is used: what a peer is sent that takes uncompressed images only.
#[test]
fn every_image_that_can_be_decoded_has_a_picture() {
    let server = server();
    let mut goods = files::good_below(&files::testdata());
    let mut of_syntax: BTreeMap<String, usize> = BTreeMap::new();
    match files::samples() {
        None => eprintln!("skipped: no folder of samples; testdata/ alone"),
        Some(folder) => {
            for good in files::good_below(&folder) {
                let syntax = good.file.transfer_syntax.clone();
                let count = of_syntax.entry(syntax).or_default();
                let few =
                    good.file.data_set.len() < SAMPLE_BYTES_MAX && *count < SAMPLES_OF_A_SYNTAX;
                if few || common::long() {
                    *count += 1;
                    goods.push(good);
                }
            }
        }
    }
    let mut pictures: BTreeMap<String, usize> = BTreeMap::new();
    let (mut icons, mut blank) = (Vec::new(), Vec::new());
    let kept = std::env::var_os("KURA_TEST_PICTURES").map(std::path::PathBuf::from);
    for good in &goods {
        if !store(&server, good) {
            continue;
        }
        let (file, sop) = (&good.file, &good.uids.sop_instance);
        let answer = get(&server, &format!("/thumbnails/instance/{sop}"));
        let told = format!("{} {}", file.transfer_syntax, file.name());
        let Some(picture) = answer.picture() else {
            assert!(answer.is_icon(), "{told}: {}", answer.status);
            let has_pixels = file.text(0x0028, 0x0010).is_some();
            if has_pixels {
                icons.push(told);
            }
            continue;
        };
        assert!(picture.width.max(picture.height) <= 160, "{told}");
        if picture.colors() < 2 {
            blank.push(told);
            continue;
        }
        *pictures.entry(file.transfer_syntax.clone()).or_default() += 1;
        if let Some(folder) = &kept {
            std::fs::write(folder.join(format!("{sop}.png")), &answer.body).expect("write");
        }
    }
    println!("pictures {pictures:#?}\nicons {icons:#?}\nblank {blank:#?}");
    assert!(pictures.len() >= 8, "{pictures:#?}");
}
