//! Bits and Huffman codes of JPEG (ITU-T T.81 C, F.2.2).

use super::PixelError;

/// Codes up to this length are looked up at once, bits.
const FAST_BITS: u32 = 9;

pub struct Huffman {
    /// Length and symbol for what the next bits are; length 0: a longer code.
    fast: Vec<(u8, u8)>,
    /// For each length: the first code, where its symbols begin, how many there are.
    lengths: [(u32, usize, u32); 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// `counts`: how many codes of each length from 1 to 16. Source: T.81 C.2.
    pub fn new(counts: &[u8], symbols: &[u8]) -> Result<Huffman, PixelError> {
        let mut lengths = [(0, 0, 0); 17];
        let mut fast = vec![(0, 0); 1 << FAST_BITS];
        let (mut code, mut at) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            let count = u32::from(count);
            lengths[length as usize] = (code, at, count);
            if code + count > 1 << length {
                return Err(PixelError::Damaged("a Huffman table makes no sense"));
            }
            for _ in 0..count {
                if length <= FAST_BITS {
                    let first = (code << (FAST_BITS - length)) as usize;
                    let same = 1usize << (FAST_BITS - length);
                    fast[first..first + same].fill((length as u8, symbols[at]));
                }
                code += 1;
                at += 1;
            }
            code <<= 1;
        }
        Ok(Huffman {
            fast,
            lengths,
            symbols: symbols.to_vec(),
        })
    }

    pub fn symbol(&self, bits: &mut Bits) -> Result<u8, PixelError> {
        let next = bits.peek16();
        let (length, symbol) = self.fast[(next >> (16 - FAST_BITS)) as usize];
        if length > 0 {
            bits.skip(u32::from(length));
            return Ok(symbol);
        }
        for length in FAST_BITS + 1..=16 {
            let (first, begin, count) = self.lengths[length as usize];
            let code = next >> (16 - length);
            if code >= first && code - first < count {
                bits.skip(length);
                return Ok(self.symbols[begin + (code - first) as usize]);
            }
        }
        Err(PixelError::Damaged("a code is none"))
    }
}

/// Bits of a scan, the zeros behind FFH taken out.
pub struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
    /// Bits beyond the end that were made up.
    missing: u32,
}

impl Bits<'_> {
    pub fn new(data: &[u8]) -> Bits<'_> {
        Bits {
            data,
            at: 0,
            held: 0,
            count: 0,
            missing: 0,
        }
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let byte = match (self.data.get(self.at), self.data.get(self.at + 1)) {
                (Some(0xFF), Some(0)) => {
                    self.at += 2;
                    0xFF
                }
                // A marker, or the end: zeros, which the caller finds out.
                (Some(0xFF), _) | (None, _) => {
                    self.missing += 8;
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn peek16(&mut self) -> u32 {
        if self.count < 16 {
            self.fill();
        }
        (self.held >> 48) as u32
    }

    fn skip(&mut self, count: u32) {
        self.held <<= count;
        self.count -= count;
    }

    /// At most 16.
    pub fn take(&mut self, count: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        let value = self.peek16() >> (16 - count);
        self.skip(count);
        value
    }

    /// A number of so many bits, negative where its first is 0. Source: T.81 F.2.2.1.
    pub fn signed(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let value = self.take(size) as i32;
        match value < 1 << (size - 1) {
            true => value - (1 << size) + 1,
            false => value,
        }
    }

    /// More bits were asked for than there are.
    pub fn is_over(&self) -> bool {
        self.missing > self.count
    }

    /// Goes on behind the restart marker that must stand here.
    pub fn restart(&mut self) -> Result<(), PixelError> {
        let lost = PixelError::Damaged("a restart marker is missing");
        if self.is_over() {
            return Err(lost);
        }
        let rest = self.data.get(self.at..).unwrap_or_default();
        // Fill bytes may stand in front of it.
        let fill = rest.iter().take_while(|&&byte| byte == 0xFF).count();
        match rest.get(fill) {
            Some(0xD0..=0xD7) if fill > 0 => {
                self.at += fill + 1;
                (self.held, self.count, self.missing) = (0, 0, 0);
                Ok(())
            }
            _ => Err(lost),
        }
    }

    /// Where the scan's bytes end.
    pub fn ended_at(&self) -> usize {
        self.at
    }
}
