//! One page of a b-tree, and the cells in it: where they are, how long, whether they add up.
//!
//! Format: <https://www.sqlite.org/fileformat2.html#b_tree_pages>. Nothing here trusts a number that it has read.

/// What a walk stumbled over: something is wrong with the file, or it is something that we do not read with certainty.
/// SQLite is asked then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Odd(pub String);

/// Makes an [`Odd`] of words and a page.
pub(super) fn odd<T>(page: u32, what: &str) -> Result<T, Odd> {
    Err(Odd(format!("page {page}: {what}")))
}

/// The kinds of b-tree pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    IndexInterior,
    TableInterior,
    IndexLeaf,
    TableLeaf,
}

impl Kind {
    pub fn is_leaf(self) -> bool {
        matches!(self, Kind::IndexLeaf | Kind::TableLeaf)
    }
}

/// A page whose header has been looked at.
pub(super) struct Page<'a> {
    pub number: u32,
    pub kind: Kind,
    pub cells: usize,
    /// Bytes of the page that are used for the tree; behind them are reserved ones.
    bytes: &'a [u8],
    /// Where the page's own header begins: behind the database's on page 1.
    header: usize,
    /// Where cells may begin.
    content: usize,
    /// Bytes of cells and free places met so far.
    pub covered: usize,
}

/// A cell: its key and its bytes.
pub(super) struct Cell<'a> {
    /// Of interior pages: the child with the keys up to this one's.
    pub child: u32,
    /// Of table pages.
    pub rowid: i64,
    /// The bytes that are on this page.
    pub local: &'a [u8],
    /// All bytes.
    pub payload: u64,
    /// The first page with those that are not here; 0 when all are.
    pub overflow: u32,
}

impl<'a> Page<'a> {
    pub fn parse(number: u32, bytes: &'a [u8], usable: usize) -> Result<Page<'a>, Odd> {
        let bytes = &bytes[..usable];
        let header = if number == 1 { 100 } else { 0 };
        let kind = match bytes[header] {
            2 => Kind::IndexInterior,
            5 => Kind::TableInterior,
            10 => Kind::IndexLeaf,
            13 => Kind::TableLeaf,
            _ => return odd(number, "it is no page of a b-tree"),
        };
        let cells = usize::from(short(bytes, header + 3));
        let content = match usize::from(short(bytes, header + 5)) {
            0 => 65_536,
            other => other,
        };
        let page = Page { number, kind, cells, bytes, header, content, covered: 0 };
        if page.pointers() + cells * 2 > content || content > usable {
            return odd(number, "its cells do not fit");
        }
        Ok(page)
    }

    fn pointers(&self) -> usize {
        self.header + if self.kind.is_leaf() { 8 } else { 12 }
    }

    /// The child with the greatest keys.
    pub fn right(&self) -> u32 {
        long(self.bytes, self.header + 8)
    }

    /// A cell. Each is to be asked for once, so that [`Page::adds_up`] can tell whether all is covered once.
    #[inline]
    pub fn cell(&mut self, at: usize) -> Result<Cell<'a>, Odd> {
        let bytes = self.bytes;
        let begin = usize::from(short(bytes, self.pointers() + at * 2));
        if begin < self.content || begin + 4 > bytes.len() {
            return odd(self.number, "a cell is outside");
        }
        let mut next = begin;
        let mut child = 0;
        if !self.kind.is_leaf() {
            child = long(bytes, next);
            next += 4;
        }
        let cut = || Odd(format!("page {}: a cell is cut off", self.number));
        let mut cell = Cell { child, rowid: 0, local: &[], payload: 0, overflow: 0 };
        if self.kind == Kind::TableInterior {
            let (rowid, length) = varint(&bytes[next..]).ok_or_else(cut)?;
            cell.rowid = rowid as i64;
            self.covered += 4 + length;
            return Ok(cell);
        }
        let (payload, length) = varint(&bytes[next..]).ok_or_else(cut)?;
        next += length;
        if self.kind == Kind::TableLeaf {
            let (rowid, length) = varint(&bytes[next..]).ok_or_else(cut)?;
            cell.rowid = rowid as i64;
            next += length;
        }
        let here = self.local_bytes(payload);
        cell.payload = payload;
        cell.local = bytes.get(next..next + here).ok_or_else(cut)?;
        next += here;
        if (here as u64) < payload {
            if next + 4 > bytes.len() {
                return Err(cut());
            }
            cell.overflow = long(bytes, next);
            next += 4;
        }
        self.covered += (next - begin).max(4);
        Ok(cell)
    }

    /// How much of a payload is on the page itself.
    #[inline]
    fn local_bytes(&self, payload: u64) -> usize {
        let usable = self.bytes.len();
        let most = match self.kind {
            Kind::TableLeaf | Kind::TableInterior => usable - 35,
            Kind::IndexLeaf | Kind::IndexInterior => (usable - 12) * 64 / 255 - 23,
        };
        if payload <= most as u64 {
            return payload as usize;
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let some = least + ((payload - least as u64) % (usable as u64 - 4)) as usize;
        if some <= most { some } else { least }
    }

    /// Whether cells, free places and splinters together are all there is behind the beginning of the cells.
    pub fn adds_up(&self) -> Result<(), Odd> {
        let bytes = self.bytes;
        let mut covered = self.covered + usize::from(bytes[self.header + 7]);
        let mut free = usize::from(short(bytes, self.header + 1));
        while free != 0 {
            if free < self.content || free + 4 > bytes.len() {
                return odd(self.number, "a free place is outside");
            }
            let (next, length) = (usize::from(short(bytes, free)), usize::from(short(bytes, free + 2)));
            covered += length;
            if free + length > bytes.len() || length < 4 || (next != 0 && next < free + length) {
                return odd(self.number, "its free places are in disorder");
            }
            free = next;
        }
        match covered == bytes.len() - self.content {
            true => Ok(()),
            false => odd(self.number, "its cells overlap, or leave a gap"),
        }
    }
}

#[inline]
fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
pub(super) fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A number of 1 to 9 bytes, and how many they are; nothing when it is cut off.
#[inline(always)]
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    match *bytes {
        [first, ..] if first < 0x80 => Some((u64::from(first), 1)),
        [first, second, ..] if second < 0x80 => Some((u64::from(first & 0x7f) << 7 | u64::from(second), 2)),
        _ => long_varint(bytes),
    }
}

#[inline(never)]
fn long_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for at in 0..8 {
        let byte = *bytes.get(at)?;
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    Some((value << 8 | u64::from(*bytes.get(8)?), 9))
}
