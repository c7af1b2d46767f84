//! What stands in the file of a journal: header, marks, heads of records. Numbers are little-endian.

/// Everything begins at a multiple of this: a disk writes such a block whole or not at all, or says that it is damaged.
pub const BLOCK_BYTES: u64 = 4096;

const HEADER_MAGIC: &[u8; 8] = b"KURAJRN1";
const MARK_MAGIC: &[u8; 8] = b"KURAMARK";
const HEAD_MAGIC: &[u8; 8] = b"KURAREC1";
const OWNER_BYTES_MAX: usize = 64;

/// Rounded up to whole blocks.
pub fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

/// The first block of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// By lot, new with each journal: what an older file left in the same blocks is not taken for its records.
    pub id: [u8; 16],
    /// Id of the volume.
    pub owner: String,
    /// Of the file, bytes.
    pub size: u64,
}

impl Header {
    /// None for an owner whose id is too long.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let owner = self.owner.as_bytes();
        if owner.len() > OWNER_BYTES_MAX {
            return None;
        }
        let mut bytes = HEADER_MAGIC.to_vec();
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(&(owner.len() as u32).to_le_bytes());
        bytes.extend_from_slice(owner);
        Some(sealed(bytes))
    }

    pub fn decode(block: &[u8]) -> Result<Header, &'static str> {
        let mut fields = Fields(block);
        if fields.take::<8>() != Some(*HEADER_MAGIC) {
            return Err("it does not begin like one");
        }
        let header = || {
            let id = fields.take::<16>()?;
            let size = fields.number()?;
            let length = u32::from_le_bytes(fields.take::<4>()?) as usize;
            let owner = fields.bytes(length.min(OWNER_BYTES_MAX + 1))?;
            let owner = std::str::from_utf8(owner).ok()?.to_owned();
            let is_whole = length <= OWNER_BYTES_MAX && fields.is_sealed(block);
            is_whole.then_some(Header { id, owner, size })
        };
        let mut header = header;
        header().ok_or("its first block is damaged")
    }
}

/// Where the oldest record is. The one with the higher count is the newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub count: u64,
    /// Of the oldest record; records with lower ones are not looked for.
    pub number: u64,
    pub at: u64,
    /// There is none: nothing was appended since.
    pub clean: bool,
}

impl Mark {
    pub fn encode(&self, id: &[u8; 16]) -> Vec<u8> {
        let mut bytes = MARK_MAGIC.to_vec();
        bytes.extend_from_slice(id);
        for number in [self.count, self.number, self.at, u64::from(self.clean)] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        sealed(bytes)
    }

    pub fn decode(block: &[u8], id: &[u8; 16]) -> Option<Mark> {
        let mut fields = Fields(block);
        let is_ours = fields.take::<8>()? == *MARK_MAGIC && fields.take::<16>()? == *id;
        let mark = Mark {
            count: fields.number()?,
            number: fields.number()?,
            at: fields.number()?,
            clean: fields.number()? == 1,
        };
        let is_one = is_ours && fields.is_sealed(block) && mark.number > 0;
        (is_one && mark.at.is_multiple_of(BLOCK_BYTES) && mark.at >= 3 * BLOCK_BYTES)
            .then_some(mark)
    }
}

/// The beginning of a record; `about` and data follow it without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub id: [u8; 16],
    /// From 1, without gaps.
    pub number: u64,
    /// Its own place: bytes of an image that look like a head are none.
    pub at: u64,
    /// All records up to this number were durable when it was written.
    pub durable_upto: u64,
    pub about_bytes: u32,
    pub about_crc32: u32,
    pub data_bytes: u64,
    pub data_crc32: u32,
}

impl Head {
    pub const BYTES: usize = 8 + 16 + 3 * 8 + 4 + 4 + 8 + 4 + 4;

    /// Of the data, from the beginning of the record.
    pub fn data_offset(&self) -> u64 {
        Self::BYTES as u64 + u64::from(self.about_bytes)
    }

    /// Of the whole record, in whole blocks.
    pub fn length(&self) -> u64 {
        blocks(self.data_offset().saturating_add(self.data_bytes))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = HEAD_MAGIC.to_vec();
        bytes.extend_from_slice(&self.id);
        for number in [self.number, self.at, self.durable_upto] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.about_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.about_crc32.to_le_bytes());
        bytes.extend_from_slice(&self.data_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.data_crc32.to_le_bytes());
        sealed(bytes)
    }

    /// The head that begins at that place, if there is one of that journal.
    pub fn decode(block: &[u8], id: &[u8; 16], at: u64) -> Option<Head> {
        let mut fields = Fields(block);
        if fields.take::<8>()? != *HEAD_MAGIC {
            return None;
        }
        let head = Head {
            id: fields.take()?,
            number: fields.number()?,
            at: fields.number()?,
            durable_upto: fields.number()?,
            about_bytes: u32::from_le_bytes(fields.take()?),
            about_crc32: u32::from_le_bytes(fields.take()?),
            data_bytes: fields.number()?,
            data_crc32: u32::from_le_bytes(fields.take()?),
        };
        let is_one = head.id == *id
            && head.at == at
            && head.number > head.durable_upto
            && head.about_bytes as usize <= super::ABOUT_BYTES_MAX
            && head.data_bytes <= super::SIZE_MAX
            && fields.is_sealed(block);
        is_one.then_some(head)
    }
}

/// With the CRC-32 of it behind it.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc32 = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc32.to_le_bytes());
    bytes
}

/// What is left to read of a block.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// Whether the CRC-32 of all that was read follows.
    fn is_sealed(&mut self, block: &[u8]) -> bool {
        let read = block.len() - self.0.len();
        let expected = crc32fast::hash(&block[..read]);
        self.take().map(u32::from_le_bytes) == Some(expected)
    }
}
