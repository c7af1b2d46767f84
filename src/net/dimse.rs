//! DIMSE command sets: group 0000, always implicit VR little endian (PS3.7 6.3, E).
//!
//! A command set is kept as its encoded elements; there are about ten, so a getter walks them.

use crate::dicom::Tag;
use dicom_dictionary_std::tags;

/// Longest command set we read, in bytes. Real ones stay below 500.
pub const COMMAND_LENGTH_MAX: usize = 64 * 1024;

/// Value of (0000,0800) that says: no data set follows. Source: PS3.7 E.1.
pub const NO_DATA_SET: u16 = 0x0101;
/// What we send when one follows; any value but 0101H means that.
pub const HAS_DATA_SET: u16 = 0x0001;

/// Set in the command field of every response.
pub const RESPONSE: u16 = 0x8000;

// Command fields. Source: PS3.7 E.1.
pub const C_STORE_RQ: u16 = 0x0001;
pub const C_STORE_RSP: u16 = 0x8001;
pub const C_GET_RQ: u16 = 0x0010;
pub const C_GET_RSP: u16 = 0x8010;
pub const C_FIND_RQ: u16 = 0x0020;
pub const C_FIND_RSP: u16 = 0x8020;
pub const C_MOVE_RQ: u16 = 0x0021;
pub const C_MOVE_RSP: u16 = 0x8021;
pub const C_ECHO_RQ: u16 = 0x0030;
pub const C_ECHO_RSP: u16 = 0x8030;
pub const N_EVENT_REPORT_RQ: u16 = 0x0100;
pub const N_EVENT_REPORT_RSP: u16 = 0x8100;
pub const N_GET_RQ: u16 = 0x0110;
pub const N_SET_RQ: u16 = 0x0120;
pub const N_ACTION_RQ: u16 = 0x0130;
pub const N_ACTION_RSP: u16 = 0x8130;
pub const N_CREATE_RQ: u16 = 0x0140;
pub const N_DELETE_RQ: u16 = 0x0150;
pub const C_CANCEL_RQ: u16 = 0x0FFF;

// Priorities. Source: PS3.7 E.1, (0000,0700).
pub const PRIORITY_MEDIUM: u16 = 0x0000;
pub const PRIORITY_HIGH: u16 = 0x0001;
pub const PRIORITY_LOW: u16 = 0x0002;

/// Longest value of VR LO, in characters. Source: PS3.5 6.2.
const LO_LENGTH_MAX: usize = 64;

/// The name of a command for people.
pub fn command_name(command_field: u16) -> &'static str {
    match command_field {
        C_STORE_RQ => "C-STORE-RQ",
        C_STORE_RSP => "C-STORE-RSP",
        C_GET_RQ => "C-GET-RQ",
        C_GET_RSP => "C-GET-RSP",
        C_FIND_RQ => "C-FIND-RQ",
        C_FIND_RSP => "C-FIND-RSP",
        C_MOVE_RQ => "C-MOVE-RQ",
        C_MOVE_RSP => "C-MOVE-RSP",
        C_ECHO_RQ => "C-ECHO-RQ",
        C_ECHO_RSP => "C-ECHO-RSP",
        N_EVENT_REPORT_RQ => "N-EVENT-REPORT-RQ",
        N_EVENT_REPORT_RSP => "N-EVENT-REPORT-RSP",
        N_GET_RQ => "N-GET-RQ",
        N_SET_RQ => "N-SET-RQ",
        N_ACTION_RQ => "N-ACTION-RQ",
        N_ACTION_RSP => "N-ACTION-RSP",
        N_CREATE_RQ => "N-CREATE-RQ",
        N_DELETE_RQ => "N-DELETE-RQ",
        C_CANCEL_RQ => "C-CANCEL-RQ",
        _ => "unknown command",
    }
}

/// The command half of a DIMSE message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandSet {
    /// Elements of group 0000 in order of their tags, without the group length.
    elements: Vec<u8>,
}

/// A getter and a setter per element that is a US.
macro_rules! us_elements {
    ($($(#[$doc:meta])* $get:ident, $set:ident = $tag:ident;)*) => { impl CommandSet { $(
        $(#[$doc])*
        pub fn $get(&self) -> Option<u16> { self.us(tags::$tag) }
        $(#[$doc])*
        pub fn $set(&mut self, value: u16) -> &mut Self { self.set_us(tags::$tag, value) }
    )* } };
}

/// A getter and a setter per element that is a UID or a short text.
macro_rules! text_elements {
    ($($(#[$doc:meta])* $get:ident, $set:ident = $tag:ident;)*) => { impl CommandSet { $(
        $(#[$doc])*
        pub fn $get(&self) -> Option<String> { self.text(tags::$tag) }
        $(#[$doc])*
        pub fn $set(&mut self, value: &str) -> &mut Self { self.set_text(tags::$tag, value) }
    )* } };
}

us_elements! {
    /// (0000,0100)
    command_field, set_command_field = COMMAND_FIELD;
    /// (0000,0110)
    message_id, set_message_id = MESSAGE_ID;
    /// (0000,0120): the request that this answers or cancels.
    responded_id, set_responded_id = MESSAGE_ID_BEING_RESPONDED_TO;
    /// (0000,0700)
    priority, set_priority = PRIORITY;
    /// (0000,0800); [`super::Association::send`] sets it.
    data_set_type, set_data_set_type = COMMAND_DATA_SET_TYPE;
    /// (0000,0900)
    status, set_status = STATUS;
    /// (0000,0903)
    error_id, set_error_id = ERROR_ID;
    /// (0000,1002)
    event_type_id, set_event_type_id = EVENT_TYPE_ID;
    /// (0000,1008)
    action_type_id, set_action_type_id = ACTION_TYPE_ID;
    /// (0000,1020)
    remaining, set_remaining = NUMBER_OF_REMAINING_SUBOPERATIONS;
    /// (0000,1021)
    completed, set_completed = NUMBER_OF_COMPLETED_SUBOPERATIONS;
    /// (0000,1022)
    failed, set_failed = NUMBER_OF_FAILED_SUBOPERATIONS;
    /// (0000,1023)
    warning, set_warning = NUMBER_OF_WARNING_SUBOPERATIONS;
    /// (0000,1031): message id of the C-MOVE that this C-STORE belongs to.
    move_originator_message_id, set_move_originator_message_id = MOVE_ORIGINATOR_MESSAGE_ID;
}

text_elements! {
    /// (0000,0002)
    affected_sop_class_uid, set_affected_sop_class_uid = AFFECTED_SOP_CLASS_UID;
    /// (0000,0003)
    requested_sop_class_uid, set_requested_sop_class_uid = REQUESTED_SOP_CLASS_UID;
    /// (0000,0600)
    move_destination, set_move_destination = MOVE_DESTINATION;
    /// (0000,0902)
    error_comment, set_error_comment = ERROR_COMMENT;
    /// (0000,1000)
    affected_sop_instance_uid, set_affected_sop_instance_uid = AFFECTED_SOP_INSTANCE_UID;
    /// (0000,1001)
    requested_sop_instance_uid, set_requested_sop_instance_uid = REQUESTED_SOP_INSTANCE_UID;
    /// (0000,1030)
    move_originator_ae_title, set_move_originator_ae_title =
        MOVE_ORIGINATOR_APPLICATION_ENTITY_TITLE;
}

impl CommandSet {
    /// A command set with nothing but its command field.
    pub fn new(command_field: u16) -> CommandSet {
        let mut command = CommandSet::default();
        command.set_command_field(command_field);
        command
    }

    /// The response to `request`: its command, message id, SOP class and instance, and `status`.
    pub fn response_to(request: &CommandSet, status: u16) -> CommandSet {
        let mut response = CommandSet::new(request.command_field().unwrap_or(0) | RESPONSE);
        response
            .set_responded_id(request.message_id().unwrap_or(0))
            .set_data_set_type(NO_DATA_SET)
            .set_status(status);
        let class = request
            .affected_sop_class_uid()
            .or_else(|| request.requested_sop_class_uid());
        if let Some(uid) = class {
            response.set_affected_sop_class_uid(&uid);
        }
        let instance = request
            .affected_sop_instance_uid()
            .or_else(|| request.requested_sop_instance_uid());
        if let Some(uid) = instance {
            response.set_affected_sop_instance_uid(&uid);
        }
        response
    }

    /// True for a response, false for a request or a cancel.
    pub fn is_response(&self) -> bool {
        self.command_field()
            .is_some_and(|field| field & RESPONSE != 0)
    }

    /// True when a data set follows. A missing (0000,0800) means that none does.
    pub fn has_data_set(&self) -> bool {
        self.data_set_type()
            .is_some_and(|value| value != NO_DATA_SET)
    }

    /// (0000,0901): the elements that were at fault.
    pub fn offending_elements(&self) -> Vec<Tag> {
        let value = self.value(tags::OFFENDING_ELEMENT).unwrap_or_default();
        let (pairs, _) = value.as_chunks::<4>();
        pairs
            .iter()
            .map(|[a, b, c, d]| Tag(u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d])))
            .collect()
    }

    /// (0000,0901)
    pub fn set_offending_elements(&mut self, offending: &[Tag]) -> &mut Self {
        let mut value = Vec::with_capacity(offending.len() * 4);
        for tag in offending {
            value.extend_from_slice(&tag.group().to_le_bytes());
            value.extend_from_slice(&tag.element().to_le_bytes());
        }
        self.set(tags::OFFENDING_ELEMENT, &value)
    }

    /// The raw value of an element of group 0000.
    pub fn value(&self, tag: Tag) -> Option<&[u8]> {
        Elements(&self.elements)
            .find(|element| element.tag == tag)
            .map(|element| element.value)
    }

    /// The first number of an element that is a US.
    pub fn us(&self, tag: Tag) -> Option<u16> {
        match self.value(tag)? {
            [low, high, ..] => Some(u16::from_le_bytes([*low, *high])),
            _ => None,
        }
    }

    /// An element that is text or a UID, its padding trimmed; `None` when absent or empty.
    pub fn text(&self, tag: Tag) -> Option<String> {
        let text = super::pdu::text(self.value(tag)?);
        (!text.is_empty()).then_some(text)
    }

    pub fn set_us(&mut self, tag: Tag, value: u16) -> &mut Self {
        self.set(tag, &value.to_le_bytes())
    }

    /// Text or UID; padded to even length. Other than printable ASCII becomes `?`, and text
    /// (not UIDs) is cut after 64 characters, as a command set has no character set.
    pub fn set_text(&mut self, tag: Tag, text: &str) -> &mut Self {
        let uid = matches!(tag.element(), 0x0002 | 0x0003 | 0x1000 | 0x1001);
        let mut value: Vec<u8> = text
            .chars()
            .map(|c| match c {
                ' '..='~' => c as u8,
                _ => b'?',
            })
            .collect();
        if !uid {
            value.truncate(LO_LENGTH_MAX);
        }
        if value.len() % 2 == 1 {
            value.push(if uid { 0 } else { b' ' });
        }
        self.set(tag, &value)
    }

    /// Puts an element in its place, instead of one that is there.
    fn set(&mut self, tag: Tag, value: &[u8]) -> &mut Self {
        let mut at = self.elements.len();
        let mut end = at;
        let mut offset = 0;
        for element in Elements(&self.elements) {
            let next = offset + 8 + element.value.len();
            if element.tag >= tag {
                at = offset;
                end = if element.tag == tag { next } else { offset };
                break;
            }
            offset = next;
        }
        let mut encoded = Vec::with_capacity(8 + value.len());
        encode_element(&mut encoded, tag, value);
        self.elements.splice(at..end, encoded);
        self
    }

    /// The command set as it goes over the wire, with its group length first.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12 + self.elements.len());
        let length = u32::try_from(self.elements.len()).unwrap_or(u32::MAX);
        encode_element(&mut out, tags::COMMAND_GROUP_LENGTH, &length.to_le_bytes());
        out.extend_from_slice(&self.elements);
        out
    }

    /// Decodes a complete command set. The error says what is wrong.
    ///
    /// Tolerated: a wrong or missing group length, elements out of order (the first of a tag
    /// counts), retired and unknown elements of group 0000, odd lengths.
    pub fn decode(raw: &[u8]) -> Result<CommandSet, &'static str> {
        if raw.len() > COMMAND_LENGTH_MAX {
            return Err("command set longer than 64 KiB");
        }
        let mut elements = Elements(raw);
        let mut sorted = true;
        let mut last = None;
        let mut found = Vec::new();
        for element in elements.by_ref() {
            if element.tag.group() != 0 {
                return Err("command set has an element of another group");
            }
            sorted &= last < Some(element.tag);
            last = Some(element.tag);
            if element.tag != tags::COMMAND_GROUP_LENGTH {
                found.push(element);
            }
        }
        if !elements.0.is_empty() {
            return Err("command set ends within an element");
        }
        if !sorted {
            found.sort_by_key(|element| element.tag);
            found.dedup_by_key(|element| element.tag);
        }
        let mut command = CommandSet {
            elements: Vec::with_capacity(raw.len()),
        };
        for element in found {
            encode_element(&mut command.elements, element.tag, element.value);
        }
        if command.command_field().is_none() {
            return Err("command set has no command field");
        }
        Ok(command)
    }
}

impl std::fmt::Display for CommandSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(command_name(self.command_field().unwrap_or(0)))?;
        if let Some(id) = self.message_id() {
            write!(f, " message {id}")?;
        }
        if let Some(id) = self.responded_id() {
            write!(f, " to {id}")?;
        }
        if let Some(status) = self.status() {
            write!(f, " status {status:04X}")?;
        }
        if let Some(uid) = self.affected_sop_class_uid() {
            write!(f, " class {uid}")?;
        }
        if let Some(uid) = self.affected_sop_instance_uid() {
            write!(f, " instance {uid}")?;
        }
        Ok(())
    }
}

fn encode_element(out: &mut Vec<u8>, tag: Tag, value: &[u8]) {
    out.extend_from_slice(&tag.group().to_le_bytes());
    out.extend_from_slice(&tag.element().to_le_bytes());
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(value);
}

struct Element<'a> {
    tag: Tag,
    value: &'a [u8],
}

/// Walks elements; stops before one that is cut, leaving its bytes.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&[g0, g1, e0, e1, l0, l1, l2, l3], rest) = self.0.split_first_chunk::<8>()?;
        let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?;
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        let tag = Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]));
        Some(Element { tag, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_command_set_survives_the_wire() {
        let mut command = CommandSet::new(C_STORE_RQ);
        command
            .set_affected_sop_instance_uid("1.2.3")
            .set_message_id(7)
            .set_move_originator_ae_title("DEST")
            .set_offending_elements(&[tags::PATIENT_ID])
            .set_affected_sop_class_uid("1.2.840.10008.5.1.4.1.1.2")
            .set_message_id(8)
            .set_data_set_type(HAS_DATA_SET);
        let raw = command.encode();
        assert_eq!(&raw[..12], [0, 0, 0, 0, 4, 0, 0, 0, raw[8], 0, 0, 0]);
        assert_eq!(usize::from(raw[8]), raw.len() - 12);
        let decoded = CommandSet::decode(&raw).unwrap();
        assert_eq!(decoded, command);
        assert_eq!(decoded.message_id(), Some(8));
        assert_eq!(decoded.affected_sop_instance_uid().unwrap(), "1.2.3");
        assert_eq!(decoded.move_originator_ae_title().unwrap(), "DEST");
        assert_eq!(decoded.offending_elements(), [tags::PATIENT_ID]);
        assert!(decoded.has_data_set());
        assert_eq!(decoded.status(), None);
    }

    #[test]
    fn elements_are_written_in_ascending_order() {
        let mut command = CommandSet::default();
        command.set_status(1).set_command_field(2).set_remaining(3);
        let order: Vec<Tag> = Elements(&command.elements).map(|e| e.tag).collect();
        assert!(order.is_sorted(), "{order:?}");
    }

    #[test]
    fn a_response_answers_its_request() {
        let mut request = CommandSet::new(C_STORE_RQ);
        request
            .set_message_id(300)
            .set_affected_sop_class_uid("1.2")
            .set_affected_sop_instance_uid("1.2.3");
        let mut response = CommandSet::response_to(&request, 0xA700);
        response.set_error_comment(&"disk é full ".repeat(9));
        assert_eq!(response.command_field(), Some(C_STORE_RSP));
        assert_eq!(response.responded_id(), Some(300));
        assert_eq!(response.status(), Some(0xA700));
        assert_eq!(response.affected_sop_instance_uid().unwrap(), "1.2.3");
        let comment = response.error_comment().unwrap();
        assert!(comment.len() <= 64 && comment.starts_with("disk ? full"));
        assert!(response.is_response() && !response.has_data_set());
    }

    #[test]
    fn elements_out_of_order_are_found_and_the_first_of_a_tag_counts() {
        let mut raw = Vec::new();
        encode_element(&mut raw, tags::STATUS, &[1, 0]);
        encode_element(&mut raw, tags::COMMAND_FIELD, &[0x30, 0]);
        encode_element(&mut raw, tags::STATUS, &[2, 0]);
        let command = CommandSet::decode(&raw).unwrap();
        assert_eq!(command.command_field(), Some(C_ECHO_RQ));
        assert_eq!(command.status(), Some(1));
    }

    #[test]
    fn a_cut_command_set_is_an_error() {
        let mut command = CommandSet::new(C_ECHO_RQ);
        command.set_message_id(1);
        let raw = command.encode();
        for end in 0..raw.len() {
            let cut = CommandSet::decode(&raw[..end]);
            // Ends between two elements are legal as long as the command field is there.
            assert!(cut.is_err() || end >= 22, "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(command) = CommandSet::decode(&bytes) {
                let _ = command.to_string();
                let _ = command.offending_elements();
            }
        }
    }
}
