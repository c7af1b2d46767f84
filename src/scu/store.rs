//! C-STORE as SCU (PS3.4 B, PS3.7 9.1.1).

use crate::dicom::AeTitle;
use crate::net::{Association, CommandSet, NetError, dimse};
use std::io;

/// What is stored, and on whose behalf.
#[derive(Debug, Clone)]
pub struct StoreRequest {
    pub sop_class_uid: String,
    pub sop_instance_uid: String,
    /// (0000,0700), e.g. [`dimse::PRIORITY_MEDIUM`].
    pub priority: u16,
    /// Who asked for it by C-MOVE, and the message id of that request.
    pub move_originator: Option<(AeTitle, u16)>,
    pub message_id: u16,
}

/// The peer's answer. 0000H is success, Bxxx a warning (stored), all else a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOutcome {
    pub status: u16,
    /// (0000,0902), empty when there is none.
    pub comment: String,
}

impl StoreOutcome {
    /// True when the peer says that it has the instance. Source: PS3.4 B.2.3.
    pub fn is_stored(&self) -> bool {
        self.status == 0 || self.is_warning()
    }

    pub fn is_warning(&self) -> bool {
        matches!(self.status, 0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF)
    }
}

/// Where the data set of an instance comes from, encoded in the transfer syntax of its context.
pub enum DataSet<'d> {
    Whole(&'d [u8]),
    /// `read` fills a part of the buffer that it gets and says how much; so many bytes in all.
    Pieces {
        len: u64,
        read: &'d mut dyn FnMut(&mut [u8]) -> io::Result<usize>,
    },
}

/// Sends an instance, then waits for the answer; `meanwhile` is called in between.
///
/// After [`NetError::Source`] the caller aborts: the instance went out incomplete.
pub fn store(
    association: &mut Association,
    context_id: u8,
    request: &StoreRequest,
    data_set: DataSet,
    meanwhile: &mut dyn FnMut(),
) -> Result<StoreOutcome, NetError> {
    let mut command = CommandSet::new(dimse::C_STORE_RQ);
    command
        .set_affected_sop_class_uid(&request.sop_class_uid)
        .set_message_id(request.message_id)
        .set_priority(request.priority)
        .set_data_set_type(dimse::HAS_DATA_SET)
        .set_affected_sop_instance_uid(&request.sop_instance_uid);
    if let Some((ae_title, message_id)) = &request.move_originator {
        command
            .set_move_originator_ae_title(ae_title.as_str())
            .set_move_originator_message_id(*message_id);
    }
    match data_set {
        DataSet::Whole(bytes) => association.send(context_id, &command, Some(bytes))?,
        DataSet::Pieces { len, read } => {
            association.send_stream(context_id, &command, len, read)?;
        }
    }
    meanwhile();
    let (_, response) = association.next_response(request.message_id)?;
    Ok(StoreOutcome {
        status: super::status_of(association, &response)?,
        comment: response.error_comment().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::ts;
    use crate::net::loopback::{CT, dcmtk, pair, policy, serve, title};
    use crate::net::{Received, Timeouts};
    use std::time::{Duration, Instant};

    /// A small CT data set in explicit VR little endian with some pixel data.
    fn data_set(instance: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |group: u16, element: u16, vr: &[u8; 2], value: &[u8]| {
            out.extend_from_slice(&group.to_le_bytes());
            out.extend_from_slice(&element.to_le_bytes());
            out.extend_from_slice(vr);
            if vr == b"OW" {
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            } else {
                out.extend_from_slice(&(value.len() as u16).to_le_bytes());
            }
            out.extend_from_slice(value);
        };
        let even = |uid: &str| {
            let mut value = uid.as_bytes().to_vec();
            value.resize(value.len().next_multiple_of(2), 0);
            value
        };
        put(8, 0x16, b"UI", &even(CT));
        put(8, 0x18, b"UI", &even(instance));
        put(0x10, 0x20, b"LO", b"P1");
        put(0x20, 0x0d, b"UI", &even("1.2.3"));
        put(0x20, 0x0e, b"UI", &even("1.2.3.4"));
        put(0x7fe0, 0x10, b"OW", &vec![7; 400_000]);
        out
    }

    fn request(message_id: u16) -> StoreRequest {
        StoreRequest {
            sop_class_uid: CT.to_owned(),
            sop_instance_uid: format!("1.2.3.4.{message_id}"),
            priority: dimse::PRIORITY_MEDIUM,
            move_originator: Some((title("WORKSTATION"), 77)),
            message_id,
        }
    }

    #[test]
    fn a_refusal_comes_back_with_its_comment() {
        let (mut acceptor, mut requestor) = pair();
        let server = std::thread::spawn(move || {
            let Ok(Received::Command {
                context_id,
                command,
            }) = acceptor.next_command()
            else {
                panic!("no request");
            };
            let mut count = 0;
            while let Some(fragment) = acceptor.data_fragment().unwrap() {
                count += fragment.len();
            }
            let mut response = CommandSet::response_to(&command, 0xA700);
            response.set_error_comment("disk full");
            acceptor.send(context_id, &response, None).unwrap();
            (count, command)
        });
        let data = data_set("1.2.3.4.5");
        let mut source = data.as_slice();
        let pieces = DataSet::Pieces {
            len: data.len() as u64,
            read: &mut |into| io::Read::read(&mut source, into),
        };
        let outcome = store(&mut requestor, 5, &request(5), pieces, &mut || {}).unwrap();
        assert_eq!(
            (outcome.status, outcome.comment.as_str()),
            (0xA700, "disk full")
        );
        assert!(!outcome.is_stored());
        let (count, command) = server.join().unwrap();
        assert_eq!(count, data.len());
        assert_eq!(command.move_originator_ae_title().unwrap(), "WORKSTATION");
        assert_eq!(command.move_originator_message_id(), Some(77));
    }

    /// Method: three instances; the files that storescp writes must end in our very bytes.
    #[test]
    fn dcmtk_storescp_takes_what_we_send() {
        let Some(mut storescp) = dcmtk("storescp") else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let mut server = storescp
            .args(["+B", "-od"])
            .arg(folder.path())
            .arg(port.to_string())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut association = loop {
            let contexts = vec![(
                CT.to_owned(),
                vec![ts::EXPLICIT_VR_LITTLE_ENDIAN.to_owned()],
            )];
            let (calling, called) = (title("KURA"), title("STORESCP"));
            let address = ("127.0.0.1", port);
            let timeouts = Timeouts::default();
            match Association::request(address, &calling, &called, contexts, timeouts, &[]) {
                Ok(association) => break association,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let mut sent = Vec::new();
        for message_id in 1..=3 {
            let request = request(message_id);
            let data = data_set(&request.sop_instance_uid);
            let mut source = data.as_slice();
            let len = data.len() as u64;
            let pieces = DataSet::Pieces {
                len,
                read: &mut |into| io::Read::read(&mut source, into),
            };
            let whole = DataSet::Whole(&data);
            let given = if message_id % 2 == 0 { pieces } else { whole };
            let outcome = store(&mut association, 1, &request, given, &mut || {}).unwrap();
            assert!(outcome.is_stored(), "{outcome:?}");
            sent.push(data);
        }
        association.release().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
        let files: Vec<Vec<u8>> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect();
        assert_eq!(files.len(), 3);
        for data in sent {
            assert!(files.iter().any(|file| file.ends_with(&data)));
        }
    }

    /// Method: storescu sends 40 times over one association; its data sets come verbatim.
    #[test]
    fn dcmtk_storescu_is_received_byte_by_byte() {
        let Some(mut storescu) = dcmtk("storescu") else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ct.dcm");
        let data = data_set("1.2.3.4.5");
        let mut part10 = vec![0; 128];
        part10.extend_from_slice(b"DICM");
        let syntax = ts::EXPLICIT_VR_LITTLE_ENDIAN;
        let mut meta = Vec::new();
        for (element, uid) in [(2u8, CT), (3, "1.2.3.4.5"), (0x10, syntax)] {
            let mut value = uid.as_bytes().to_vec();
            value.resize(value.len().next_multiple_of(2), 0);
            meta.extend_from_slice(&[2, 0, element, 0, b'U', b'I', value.len() as u8, 0]);
            meta.extend_from_slice(&value);
        }
        part10.extend_from_slice(&[2, 0, 0, 0, b'U', b'L', 4, 0]);
        part10.extend_from_slice(&(meta.len() as u32).to_le_bytes());
        part10.extend_from_slice(&meta);
        part10.extend_from_slice(&data);
        std::fs::write(&file, &part10).unwrap();

        let expected = data.clone();
        let (address, server) = serve(policy(), false, move |result| {
            let mut association = result.unwrap();
            let mut count = 0;
            while let Received::Command {
                context_id,
                command,
            } = association.next_command().unwrap()
            {
                let mut received = Vec::new();
                while let Some(fragment) = association.data_fragment().unwrap() {
                    received.extend_from_slice(fragment);
                }
                assert!(received == expected);
                let response = CommandSet::response_to(&command, 0);
                association.send(context_id, &response, None).unwrap();
                count += 1;
            }
            association.release_reply();
            count
        });
        let port = address.port().to_string();
        let output = storescu
            .args(["--repeat", "40", "127.0.0.1", &port])
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(server.join().unwrap(), 40);
    }
}
