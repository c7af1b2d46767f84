//! What a peer's answer to C-STORE means, for people.

/// Of a status of C-STORE. Source: PS3.4 Table B.2-1, PS3.7 Annex C.
pub fn meaning(status: u16) -> &'static str {
    match status {
        0x0110 => "processing failure",
        0x0111 => "duplicate SOP instance",
        0x0117 => "invalid SOP instance",
        0x0122 => "SOP class not supported",
        0x0124 => "not authorized",
        0x0210 => "duplicate invocation",
        0x0211 => "unrecognized operation",
        0x0212 => "mistyped argument",
        0xA700..=0xA7FF => "out of resources",
        0xA900..=0xA9FF => "data set does not match SOP class",
        0xB000 => "stored, with elements changed",
        0xB006 => "stored, with elements left out",
        0xB007 => "stored, though it does not match its SOP class",
        0xB001..=0xBFFF => "stored, with a warning",
        0xC000..=0xCFFF => "not understood",
        _ => "refused",
    }
}
