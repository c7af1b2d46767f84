//! Bytes of the upper layer protocol: headers, A-ASSOCIATE, A-RELEASE, A-ABORT (PS3.8 9.3).
//!
//! P-DATA is not decoded here: [`super::association`] streams it. Every length of a PDU is
//! checked against what its enclosing item leaves; nothing recurses and nothing is allocated
//! from a length which the peer only claims.

/// Length of a PDU header (type, reserved, length) in bytes. Source: PS3.8 9.3.1.
pub const PDU_HEADER_LENGTH: usize = 6;

/// Length of a presentation data value header (length, context, control) in bytes.
///
/// Source: PS3.8 9.3.5.1 and E.2.
pub const PDV_HEADER_LENGTH: usize = 6;

/// Longest P-DATA-TF variable field we accept, in bytes, PDU header excluded.
///
/// Sent as Maximum Length Received. A peer that sends 0 sets no limit for us; we still cut
/// what we send at this value, for longer PDUs were measured to gain nothing.
///
/// Source: PS3.8 D.1.
pub const PDU_LENGTH_MAX: u32 = 131_072;

/// Longest A-ASSOCIATE-RQ or -AC we read, in bytes. Real ones stay below 20 KB.
pub const ASSOCIATE_LENGTH_MAX: u32 = 1 << 20;

/// Most presentation context items we look at; only 128 can have a legal id of their own.
const CONTEXT_ITEMS_MAX: usize = 512;

/// The DICOM application context. Source: PS3.7 A.2.1.
pub const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

pub const ASSOCIATE_RQ: u8 = 0x01;
pub const ASSOCIATE_AC: u8 = 0x02;
pub const ASSOCIATE_RJ: u8 = 0x03;
pub const P_DATA_TF: u8 = 0x04;
pub const RELEASE_RQ: u8 = 0x05;
pub const RELEASE_RP: u8 = 0x06;
pub const ABORT: u8 = 0x07;

/// Type and length of a PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub pdu_type: u8,
    /// Bytes that follow the header.
    pub length: u32,
}

impl Header {
    pub fn parse(raw: &[u8; PDU_HEADER_LENGTH]) -> Header {
        Header {
            pdu_type: raw[0],
            length: u32::from_be_bytes([raw[2], raw[3], raw[4], raw[5]]),
        }
    }
}

/// Why an A-ABORT of the service provider is sent. Source: PS3.8 9.3.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AbortReason {
    NotSpecified = 0,
    UnrecognizedPdu = 1,
    UnexpectedPdu = 2,
    UnexpectedParameter = 5,
    InvalidParameter = 6,
}

impl AbortReason {
    /// The answer to a PDU of this type where it has no place.
    pub fn misplaced(pdu_type: u8) -> AbortReason {
        match pdu_type {
            ASSOCIATE_RQ..=ABORT => AbortReason::UnexpectedPdu,
            _ => AbortReason::UnrecognizedPdu,
        }
    }
}

/// Result, source and reason of an A-ASSOCIATE-RJ, as on the wire. Source: PS3.8 9.3.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject {
    pub result: u8,
    pub source: u8,
    pub reason: u8,
}

impl Reject {
    pub const APPLICATION_CONTEXT: Reject = Reject::of(1, 1, 2);
    pub const CALLING_AE_TITLE: Reject = Reject::of(1, 1, 3);
    pub const CALLED_AE_TITLE: Reject = Reject::of(1, 1, 7);
    /// The user identity is not one that may come in. Source: PS3.7 D.3.3.7.
    pub const USER_IDENTITY: Reject = Reject::of(1, 2, 1);
    /// The user identity cannot be looked at now; the peer may try again.
    pub const USER_IDENTITY_LATER: Reject = Reject::of(2, 2, 1);
    pub const PROTOCOL_VERSION: Reject = Reject::of(1, 2, 2);
    /// Too many associations at the moment; the peer may try again.
    pub const LOCAL_LIMIT: Reject = Reject::of(2, 3, 2);

    const fn of(result: u8, source: u8, reason: u8) -> Reject {
        Reject {
            result,
            source,
            reason,
        }
    }

    /// True when the same request may succeed later.
    pub fn is_transient(self) -> bool {
        self.result == 2
    }

    pub fn encode(self) -> [u8; 10] {
        [
            ASSOCIATE_RJ,
            0,
            0,
            0,
            0,
            4,
            0,
            self.result,
            self.source,
            self.reason,
        ]
    }

    pub fn decode(body: &[u8]) -> Option<Reject> {
        match body {
            [_, result, source, reason, ..] => Some(Reject::of(*result, *source, *reason)),
            _ => None,
        }
    }
}

impl std::fmt::Display for Reject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = match (self.source, self.reason) {
            (1, 1) | (2, 1) => "no reason given",
            (1, 2) => "application context not supported",
            (1, 3) => "calling AE title not recognized",
            (1, 7) => "called AE title not recognized",
            (2, 2) => "protocol version not supported",
            (3, 1) => "temporary congestion",
            (3, 2) => "local limit exceeded",
            _ => return write!(f, "source {}, reason {}", self.source, self.reason),
        };
        f.write_str(why)
    }
}

/// A-ABORT. `source` 0 is the service user, 2 the service provider.
pub fn abort(source: u8, reason: AbortReason) -> [u8; 10] {
    [ABORT, 0, 0, 0, 0, 4, 0, 0, source, reason as u8]
}

/// A-RELEASE-RQ or A-RELEASE-RP.
pub fn release(pdu_type: u8) -> [u8; 10] {
    [pdu_type, 0, 0, 0, 0, 4, 0, 0, 0, 0]
}

/// A presentation context, proposed (RQ) or answered (AC).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContextItem {
    pub id: u8,
    /// AC only; 0 is acceptance. Source: PS3.8 9.3.3.2.
    pub result: u8,
    /// RQ only.
    pub abstract_syntax: String,
    /// All that are proposed (RQ) or the one accepted (AC).
    pub transfer_syntaxes: Vec<String>,
}

/// SCP/SCU role selection. Source: PS3.7 D.3.3.4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSelection {
    pub sop_class_uid: String,
    /// The requestor may act as SCU.
    pub scu: bool,
    /// The requestor may act as SCP.
    pub scp: bool,
}

/// SOP Class Extended Negotiation. Source: PS3.7 D.3.3.5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendedNegotiation {
    pub sop_class_uid: String,
    /// What it means is each service class's own matter.
    pub information: Vec<u8>,
}

/// Who the person or program behind the requestor is, as it says. Source: PS3.7 D.3.3.7.1.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserIdentity {
    /// 1: user name, 2: user name and passcode, 3: Kerberos ticket, 4: SAML assertion, 5: JSON
    /// Web Token.
    pub kind: u8,
    pub positive_response_requested: bool,
    /// At most 65,535 bytes, as the other.
    pub primary: Vec<u8>,
    /// The passcode.
    pub secondary: Vec<u8>,
}

/// What it holds lets somebody in: it is in no text.
impl std::fmt::Debug for UserIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserIdentity of type {}", self.kind)
    }
}

/// Body of an A-ASSOCIATE-RQ or -AC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Associate {
    pub protocol_version: u16,
    /// Raw, since an acceptor sends back the very bytes it got.
    pub called: [u8; 16],
    pub calling: [u8; 16],
    pub application_context: String,
    pub contexts: Vec<ContextItem>,
    /// Maximum Length Received; 0 is no limit, and so is its absence.
    pub pdu_length_max: u32,
    pub implementation_class_uid: String,
    pub implementation_version_name: String,
    pub roles: Vec<RoleSelection>,
    pub extended: Vec<ExtendedNegotiation>,
    /// RQ only.
    pub identity: Option<UserIdentity>,
    /// AC only: the identity was accepted; empty for a user name and passcode.
    pub identity_response: Option<Vec<u8>>,
}

const APPLICATION_CONTEXT_ITEM: u8 = 0x10;
const CONTEXT_RQ_ITEM: u8 = 0x20;
const CONTEXT_AC_ITEM: u8 = 0x21;
const ABSTRACT_SYNTAX_ITEM: u8 = 0x30;
const TRANSFER_SYNTAX_ITEM: u8 = 0x40;
const USER_INFORMATION_ITEM: u8 = 0x50;
const MAXIMUM_LENGTH_ITEM: u8 = 0x51;
const IMPLEMENTATION_CLASS_ITEM: u8 = 0x52;
const ROLE_SELECTION_ITEM: u8 = 0x54;
const IMPLEMENTATION_VERSION_ITEM: u8 = 0x55;
const EXTENDED_NEGOTIATION_ITEM: u8 = 0x56;
const USER_IDENTITY_RQ_ITEM: u8 = 0x58;
const USER_IDENTITY_AC_ITEM: u8 = 0x59;

/// Fixed part of an A-ASSOCIATE body in bytes. Source: PS3.8 tables 9-11 and 9-17.
const ASSOCIATE_FIXED_LENGTH: usize = 68;

impl Associate {
    /// Decodes what follows the PDU header. The error says what is wrong.
    ///
    /// Tolerated, since real peers send it: items and sub-items of unknown types, NUL or
    /// space padded UIDs, any bytes in AE titles, a refused context without transfer syntax.
    pub fn decode(body: &[u8]) -> Result<Associate, &'static str> {
        let Some((fixed, items)) = body.split_at_checked(ASSOCIATE_FIXED_LENGTH) else {
            return Err("A-ASSOCIATE ends within its fixed fields");
        };
        let mut associate = Associate {
            protocol_version: u16::from_be_bytes([fixed[0], fixed[1]]),
            ..Associate::default()
        };
        associate.called.copy_from_slice(&fixed[4..20]);
        associate.calling.copy_from_slice(&fixed[20..36]);
        let mut items = Items(items);
        while let Some((kind, value)) = items.next()? {
            match kind {
                APPLICATION_CONTEXT_ITEM => associate.application_context = text(value),
                CONTEXT_RQ_ITEM | CONTEXT_AC_ITEM => {
                    if associate.contexts.len() == CONTEXT_ITEMS_MAX {
                        return Err("too many presentation contexts");
                    }
                    associate.contexts.push(decode_context(value)?);
                }
                USER_INFORMATION_ITEM => associate.decode_user_information(value)?,
                _ => {}
            }
        }
        Ok(associate)
    }

    fn decode_user_information(&mut self, value: &[u8]) -> Result<(), &'static str> {
        let mut items = Items(value);
        while let Some((kind, value)) = items.next()? {
            match (kind, value) {
                (MAXIMUM_LENGTH_ITEM, [a, b, c, d]) => {
                    self.pdu_length_max = u32::from_be_bytes([*a, *b, *c, *d]);
                }
                (MAXIMUM_LENGTH_ITEM, _) => return Err("maximum length item is not 4 bytes"),
                (IMPLEMENTATION_CLASS_ITEM, value) => self.implementation_class_uid = text(value),
                (IMPLEMENTATION_VERSION_ITEM, value) => {
                    self.implementation_version_name = text(value);
                }
                (EXTENDED_NEGOTIATION_ITEM, [high, low, rest @ ..]) => {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    let Some((uid, information)) = rest.split_at_checked(length) else {
                        return Err("extended negotiation item is shorter than its UID");
                    };
                    self.extended.push(ExtendedNegotiation {
                        sop_class_uid: text(uid),
                        information: information.to_vec(),
                    });
                }
                (ROLE_SELECTION_ITEM, [high, low, rest @ ..]) => {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    let Some((uid, [scu, scp, ..])) = rest.split_at_checked(length) else {
                        return Err("role selection item is shorter than its UID");
                    };
                    self.roles.push(RoleSelection {
                        sop_class_uid: text(uid),
                        scu: *scu != 0,
                        scp: *scp != 0,
                    });
                }
                (USER_IDENTITY_RQ_ITEM, value) => {
                    // Which of two would be the one that was checked?
                    if self.identity.is_some() {
                        return Err("two user identity items");
                    }
                    self.identity = Some(decode_identity(value)?);
                }
                (USER_IDENTITY_AC_ITEM, value) => {
                    let (response, _) =
                        counted(value).ok_or("user identity response ends within itself")?;
                    self.identity_response = Some(response.to_vec());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The whole PDU. `pdu_type` is [`ASSOCIATE_RQ`] or [`ASSOCIATE_AC`].
    pub fn encode(&self, pdu_type: u8) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.contexts.len() * 64);
        out.extend_from_slice(&[pdu_type, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&self.protocol_version.to_be_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.called);
        out.extend_from_slice(&self.calling);
        out.extend_from_slice(&[0; 32]);
        item(&mut out, APPLICATION_CONTEXT_ITEM, |out| {
            out.extend_from_slice(self.application_context.as_bytes());
        });
        for context in &self.contexts {
            encode_context(&mut out, pdu_type, context);
        }
        item(&mut out, USER_INFORMATION_ITEM, |out| {
            item(out, MAXIMUM_LENGTH_ITEM, |out| {
                out.extend_from_slice(&self.pdu_length_max.to_be_bytes());
            });
            item(out, IMPLEMENTATION_CLASS_ITEM, |out| {
                out.extend_from_slice(self.implementation_class_uid.as_bytes());
            });
            for role in &self.roles {
                item(out, ROLE_SELECTION_ITEM, |out| {
                    out.extend_from_slice(&length_u16(role.sop_class_uid.len()).to_be_bytes());
                    out.extend_from_slice(role.sop_class_uid.as_bytes());
                    out.extend_from_slice(&[u8::from(role.scu), u8::from(role.scp)]);
                });
            }
            item(out, IMPLEMENTATION_VERSION_ITEM, |out| {
                out.extend_from_slice(self.implementation_version_name.as_bytes());
            });
            for extended in &self.extended {
                item(out, EXTENDED_NEGOTIATION_ITEM, |out| {
                    out.extend_from_slice(&length_u16(extended.sop_class_uid.len()).to_be_bytes());
                    out.extend_from_slice(extended.sop_class_uid.as_bytes());
                    out.extend_from_slice(&extended.information);
                });
            }
            if let Some(identity) = &self.identity {
                item(out, USER_IDENTITY_RQ_ITEM, |out| {
                    let positive = u8::from(identity.positive_response_requested);
                    out.extend_from_slice(&[identity.kind, positive]);
                    for field in [&identity.primary, &identity.secondary] {
                        out.extend_from_slice(&length_u16(field.len()).to_be_bytes());
                        out.extend_from_slice(field);
                    }
                });
            }
            if let Some(response) = &self.identity_response {
                item(out, USER_IDENTITY_AC_ITEM, |out| {
                    out.extend_from_slice(&length_u16(response.len()).to_be_bytes());
                    out.extend_from_slice(response);
                });
            }
        });
        let length = u32::try_from(out.len() - PDU_HEADER_LENGTH).unwrap_or(u32::MAX);
        out[2..6].copy_from_slice(&length.to_be_bytes());
        out
    }
}

/// An AE title as 16 bytes; cut or padded with spaces.
pub fn ae_title_field(title: &str) -> [u8; 16] {
    let mut field = [b' '; 16];
    for (to, from) in field.iter_mut().zip(title.bytes()) {
        *to = from;
    }
    field
}

/// The characters of an AE title field or UID: Latin-1, padding and NUL trimmed at both ends.
pub fn text(raw: &[u8]) -> String {
    raw.iter()
        .map(|&byte| char::from(byte))
        .collect::<String>()
        .trim_matches(['\0', ' '])
        .to_owned()
}

/// A field behind its length of two bytes, and what follows it.
fn counted(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = value.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// A secondary field that is left out counts as empty: only one kind has it.
fn decode_identity(value: &[u8]) -> Result<UserIdentity, &'static str> {
    let short = "user identity item ends within itself";
    let [kind, positive, rest @ ..] = value else {
        return Err(short);
    };
    let (primary, rest) = counted(rest).ok_or(short)?;
    let secondary = match rest {
        [] => &[],
        rest => counted(rest).ok_or(short)?.0,
    };
    Ok(UserIdentity {
        kind: *kind,
        positive_response_requested: *positive != 0,
        primary: primary.to_vec(),
        secondary: secondary.to_vec(),
    })
}

fn decode_context(value: &[u8]) -> Result<ContextItem, &'static str> {
    let [id, _, result, _, rest @ ..] = value else {
        return Err("presentation context item ends within its fixed fields");
    };
    let mut context = ContextItem {
        id: *id,
        result: *result,
        ..ContextItem::default()
    };
    let mut items = Items(rest);
    while let Some((kind, value)) = items.next()? {
        match kind {
            ABSTRACT_SYNTAX_ITEM => context.abstract_syntax = text(value),
            TRANSFER_SYNTAX_ITEM => context.transfer_syntaxes.push(text(value)),
            _ => {}
        }
    }
    Ok(context)
}

fn encode_context(out: &mut Vec<u8>, pdu_type: u8, context: &ContextItem) {
    let kind = if pdu_type == ASSOCIATE_RQ {
        CONTEXT_RQ_ITEM
    } else {
        CONTEXT_AC_ITEM
    };
    item(out, kind, |out| {
        out.extend_from_slice(&[context.id, 0, context.result, 0]);
        if pdu_type == ASSOCIATE_RQ {
            item(out, ABSTRACT_SYNTAX_ITEM, |out| {
                out.extend_from_slice(context.abstract_syntax.as_bytes());
            });
        }
        for syntax in &context.transfer_syntaxes {
            item(out, TRANSFER_SYNTAX_ITEM, |out| {
                out.extend_from_slice(syntax.as_bytes());
            });
        }
    });
}

/// Appends an item and fills in its length after its content is known.
fn item(out: &mut Vec<u8>, kind: u8, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[kind, 0, 0, 0]);
    content(out);
    let length = length_u16(out.len() - start - 4);
    out[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Lengths we write are those of our own short texts; a longer one would be a broken PDU,
/// which the peer refuses, rather than a panic here.
fn length_u16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Items of one nesting level: type, reserved, 2-byte length, value.
struct Items<'a>(&'a [u8]);

impl<'a> Items<'a> {
    fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, &'static str> {
        match self.0 {
            [] => Ok(None),
            [kind, _, high, low, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let Some((value, rest)) = rest.split_at_checked(length) else {
                    return Err("an item is longer than what contains it");
                };
                self.0 = rest;
                Ok(Some((*kind, value)))
            }
            _ => Err("an item ends within its header"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(contexts: usize) -> Associate {
        Associate {
            protocol_version: 1,
            called: ae_title_field("KURA"),
            calling: ae_title_field("CT 1"),
            application_context: APPLICATION_CONTEXT.to_owned(),
            contexts: (0..contexts)
                .map(|n| ContextItem {
                    id: (n * 2 + 1) as u8,
                    result: 0,
                    abstract_syntax: format!("1.2.840.10008.5.1.4.1.1.{n}"),
                    transfer_syntaxes: vec!["1.2.840.10008.1.2".into(), "1.2.3".into()],
                })
                .collect(),
            pdu_length_max: 16_384,
            implementation_class_uid: "1.2.3.4".into(),
            implementation_version_name: "TEST".into(),
            roles: vec![RoleSelection {
                sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".into(),
                scu: false,
                scp: true,
            }],
            extended: vec![ExtendedNegotiation {
                sop_class_uid: "1.2.840.10008.5.1.4.1.2.2.1".into(),
                information: vec![1, 0, 1],
            }],
            ..Associate::default()
        }
    }

    /// Type, response wanted, then the two fields, each behind its length; and what is read.
    #[test]
    fn a_user_identity_item_ends_within_itself_and_is_there_once() {
        let user = |positive: bool, secondary: &str| {
            Some(UserIdentity {
                kind: 2,
                positive_response_requested: positive,
                primary: b"sato".to_vec(),
                secondary: secondary.as_bytes().to_vec(),
            })
        };
        let cases: [(&[u8], Option<UserIdentity>); 9] = [
            (b"\x02\x01\0\x04sato\0\x02pw", user(true, "pw")),
            // What follows, and a secondary field that is left out.
            (b"\x02\0\0\x04sato\0\x02pw more", user(false, "pw")),
            (b"\x02\0\0\x04sato", user(false, "")),
            (b"\x02\0\0\x04sato\0\0", user(false, "")),
            (b"\x02\0\0\x05sato", None),
            (b"\x02\0\xff\xffsato\0\x02pw", None),
            (b"\x02\0\0\x04sato\0\x03pw", None),
            (b"\x02\0\0\x04sato\0", None),
            (b"\x02", None),
        ];
        let body = |items: &[&[u8]]| {
            let mut body = vec![0; ASSOCIATE_FIXED_LENGTH];
            item(&mut body, USER_INFORMATION_ITEM, |out| {
                for value in items {
                    item(out, USER_IDENTITY_RQ_ITEM, |out| {
                        out.extend_from_slice(value);
                    });
                }
            });
            body
        };
        for (value, expected) in &cases {
            let read = Associate::decode(&body(&[value]));
            assert_eq!(read.map(|read| read.identity).ok().flatten(), *expected);
        }
        let (first, _) = &cases[0];
        let twice = Associate::decode(&body(&[first, first])).unwrap_err();
        assert!(twice.contains("two"), "{twice}");
        let shown = format!("{:?}", Associate::decode(&body(&[first])).unwrap());
        assert!(!shown.contains("sato") && !shown.contains("112"), "{shown}");
    }

    /// Method: ours to another implementation and back; and the longest that fit in an item.
    #[test]
    fn a_user_identity_survives_the_wire() {
        use dicom_ul::pdu::{Pdu, read_pdu, write_pdu};
        let long = vec![b'a'; 30_000];
        for (primary, secondary) in [
            (b"sato".to_vec(), b"pass word".to_vec()),
            (long.clone(), long),
        ] {
            let mut request = sample(1);
            request.identity = Some(UserIdentity {
                kind: 2,
                positive_response_requested: true,
                primary,
                secondary,
            });
            let raw = request.encode(ASSOCIATE_RQ);
            assert_eq!(
                Associate::decode(&raw[PDU_HEADER_LENGTH..]).unwrap(),
                request
            );
            let pdu = read_pdu(&raw[..], 131_072, true).unwrap().unwrap();
            assert!(matches!(pdu, Pdu::AssociationRQ(_)));
            let mut theirs = Vec::new();
            write_pdu(&mut theirs, &pdu).unwrap();
            assert_eq!(
                Associate::decode(&theirs[PDU_HEADER_LENGTH..]).unwrap(),
                request
            );
        }
        let mut answer = sample(1);
        answer.contexts[0].abstract_syntax.clear();
        answer.identity_response = Some(Vec::new());
        let raw = answer.encode(ASSOCIATE_AC);
        assert_eq!(
            Associate::decode(&raw[PDU_HEADER_LENGTH..]).unwrap(),
            answer
        );
    }

    #[test]
    fn a_request_with_128_contexts_survives_the_wire() {
        let request = sample(128);
        let raw = request.encode(ASSOCIATE_RQ);
        let length = u32::from_be_bytes([raw[2], raw[3], raw[4], raw[5]]);
        assert_eq!(length as usize, raw.len() - PDU_HEADER_LENGTH);
        assert_eq!(
            Associate::decode(&raw[PDU_HEADER_LENGTH..]).unwrap(),
            request
        );
    }

    /// Method: another implementation reads what we write, and we read what it writes.
    #[test]
    fn another_codec_understands_our_bytes() {
        use dicom_ul::pdu::{Pdu, read_pdu, write_pdu};
        let request = sample(3);
        let raw = request.encode(ASSOCIATE_RQ);
        let pdu = read_pdu(&raw[..], 16_384, true).unwrap().unwrap();
        let Pdu::AssociationRQ(rq) = &pdu else {
            panic!("{pdu:?}")
        };
        assert_eq!(rq.called_ae_title, "KURA");
        assert_eq!(rq.presentation_contexts.len(), 3);
        let mut theirs = Vec::new();
        write_pdu(&mut theirs, &pdu).unwrap();
        assert_eq!(
            Associate::decode(&theirs[PDU_HEADER_LENGTH..]).unwrap(),
            request
        );
    }

    #[test]
    fn every_cut_of_a_request_is_an_error_or_a_shorter_request() {
        let raw = sample(4).encode(ASSOCIATE_RQ);
        let body = &raw[PDU_HEADER_LENGTH..];
        for end in 0..body.len() {
            if let Ok(cut) = Associate::decode(&body[..end]) {
                assert!(cut.contexts.len() <= 4);
                assert_eq!(cut.roles.len(), 0, "user information is the last item");
            }
        }
    }

    /// Length of the UID within an item of 6 bytes, and what is read of it.
    #[test]
    fn an_extended_negotiation_item_ends_within_itself() {
        for (length, expected) in [
            (0u16, Some("")),
            (3, Some("1.2")),
            (4, Some("1.2")),
            (5, None),
            (0xFFFF, None),
        ] {
            let mut body = vec![0; ASSOCIATE_FIXED_LENGTH];
            item(&mut body, USER_INFORMATION_ITEM, |out| {
                item(out, EXTENDED_NEGOTIATION_ITEM, |out| {
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(b"1.2\0");
                });
                // One that has not even room for a length is passed over.
                item(out, EXTENDED_NEGOTIATION_ITEM, |out| out.push(1));
            });
            let read = Associate::decode(&body).map(|mut found| found.extended.remove(0));
            match (read, expected) {
                (Ok(extended), Some(uid)) => assert_eq!(extended.sop_class_uid, uid),
                (Err(why), None) => assert!(why.contains("shorter"), "{why}"),
                (other, _) => panic!("{length}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_refused_context_needs_no_transfer_syntax() {
        let mut answer = sample(1);
        answer.contexts[0].abstract_syntax.clear();
        answer.contexts[0].transfer_syntaxes.clear();
        answer.contexts[0].result = 3;
        let raw = answer.encode(ASSOCIATE_AC);
        assert_eq!(
            Associate::decode(&raw[PDU_HEADER_LENGTH..]).unwrap(),
            answer
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Associate::decode(&bytes);
            let _ = Reject::decode(&bytes);
        }

        #[test]
        fn a_flipped_byte_never_panics(at in 0usize..400, value in any::<u8>()) {
            let mut raw = sample(4).encode(ASSOCIATE_RQ);
            let at = at % raw.len();
            raw[at] = value;
            let _ = Associate::decode(&raw[PDU_HEADER_LENGTH..]);
        }
    }
}
