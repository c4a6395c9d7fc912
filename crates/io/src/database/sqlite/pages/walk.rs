//! A walk over every page of a database: each must be reached once, hold what its place in the file says, and add up.
//!
//! What SQLite's `quick_check` asks of pages is asked here, in a fraction of the time, and the rows are digested on the
//! way: b-trees (kinds, bounds, order of rowids, depth), chains of overflow pages, the list of free pages, the map of an
//! auto-vacuum database, pages that nobody refers to. Whatever does not fit ends the walk, and SQLite is asked instead.

use super::{
    Pages, Trouble,
    map::{Group, PageMap, Seen},
    page::{Kind, Odd, Page, long, odd},
    rows::{Ask, Shape, Tally, add},
    scan::Scanned,
};
use crate::{database::sqlite::row::RowBytes, stop::Stop};

/// A b-tree is never deeper.
const DEPTH_MAX: u32 = 20;

/// Pages that lie one behind the other are read together, so many bytes at a time.
const RUN_BYTES: usize = 256 << 10;

/// SQLite locks by bytes from here on; the page with them is never used.
const LOCK_BYTE: u64 = 0x4000_0000;

/// What a b-tree is walked for.
#[derive(Clone, Copy)]
pub(super) enum Tree<'a> {
    /// A table's rows.
    Rows(&'a Shape),
    /// A table whose rows are of no interest, or are read by SQLite.
    Table,
    /// An index: how many entries it has.
    Index,
}

/// Why a page is where it is, as the map of an auto-vacuum database has it.
#[derive(Clone, Copy)]
enum Role {
    Root = 1,
    Free = 2,
    Overflow = 3,
    OverflowNext = 4,
    Child = 5,
}

/// One walk.
pub(super) struct Walk<'a> {
    pages: &'a Pages,
    stop: &'a Stop,
    progress: &'a dyn Fn(u64),
    usable: usize,
    /// Pages that have been reached, one bit each.
    reached: Vec<u64>,
    count: u32,
    /// Pages one map page speaks for, in an auto-vacuum database.
    mapped: Option<u32>,
    row: RowBytes,
    payload: Vec<u8>,
    page: Vec<u8>,
    run: Vec<u8>,
    earlier: Option<Earlier<'a>>,
    /// What the next backup may rely on.
    pub seen: Seen,
    /// Whether a page was reached, in this tree, that is not known to be as before.
    touched: bool,
}

/// What an earlier walk found, and what changed since.
#[derive(Clone, Copy)]
pub(super) struct Earlier<'a> {
    pub map: &'a PageMap,
    pub scanned: &'a Scanned,
}

impl Earlier<'_> {
    fn all_same(&self, first: u32, count: u32) -> bool {
        (first..first + count).all(|page| !self.scanned.is_changed(page))
    }
}

/// Where in its tree a page is: keys are greater than `above`, and not greater than `up_to`.
#[derive(Clone, Copy)]
struct Place {
    depth: u32,
    above: Option<i64>,
    up_to: Option<i64>,
}

/// The tree that is being walked.
struct Walking<'a> {
    name: &'a str,
    tree: Tree<'a>,
    part: Part,
    /// How deep its leaves are, once one was met.
    leaves: Option<u32>,
    ask: &'a Ask<'a>,
}

/// What was found below a page.
#[derive(Default)]
struct Part {
    tally: Tally,
    /// The first rowid and the last.
    span: Option<(i64, i64)>,
    /// Overflow pages: the first of a run, and how many.
    chains: Vec<(u32, u32)>,
}

impl Part {
    fn rowid(&mut self, rowid: i64) {
        self.span = Some((self.span.map_or(rowid, |(first, _)| first), rowid));
    }

    fn chained(&mut self, page: u32) {
        match self.chains.last_mut() {
            Some((first, count)) if first.wrapping_add(*count) == page => *count += 1,
            _ => self.chains.push((page, 1)),
        }
    }

    /// Goes on with what lies behind. Of chains only a group's are asked for, and that is never another's part.
    fn merge(&mut self, behind: Part) {
        self.tally.merge(behind.tally);
        if let Some((first, last)) = behind.span {
            self.span = Some((self.span.map_or(first, |(first, _)| first), last));
        }
    }
}

impl<'a> Walk<'a> {
    pub fn new(
        pages: &'a Pages,
        earlier: Option<Earlier<'a>>,
        stop: &'a Stop,
        progress: &'a dyn Fn(u64),
    ) -> Result<Walk<'a>, Trouble> {
        let bytes = pages.page_size as usize;
        let mut walk = Walk {
            pages,
            stop,
            progress,
            usable: bytes,
            reached: vec![0; pages.count as usize / 64 + 1],
            count: 0,
            mapped: None,
            row: RowBytes::default(),
            payload: Vec::new(),
            page: vec![0; bytes],
            run: vec![0; RUN_BYTES.max(bytes)],
            earlier,
            seen: Seen::default(),
            touched: false,
        };
        let first = pages.page_one()?;
        walk.usable -= usize::from(first[20]);
        if walk.usable < 480 {
            return Err(Odd("its header reserves too much of each page".to_owned()).into());
        }
        if long(&first, 52) != 0 {
            walk.mapped = Some(walk.usable as u32 / 5 + 1);
        }
        walk.special_pages()?;
        walk.free_pages(long(&first, 32), long(&first, 36))?;
        Ok(walk)
    }

    /// Walks a tree, and tells what it holds.
    pub fn tree(&mut self, name: &str, root: u32, tree: Tree<'_>, ask: &Ask<'_>) -> Result<Tally, Trouble> {
        self.touched = false;
        self.reach(root, Role::Root, 0)?;
        let mut walking = Walking { name, tree, part: Part::default(), leaves: None, ask };
        let mut bytes = vec![0; self.page.len()];
        self.pages.read(root, &mut bytes)?;
        self.node(root, &bytes, Place { depth: 0, above: None, up_to: None }, &mut walking)?;
        Ok(walking.part.tally)
    }

    /// Whether no page of the tree that was walked last is another than in the earlier backup.
    pub fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Every page must have been reached. Gives what was seen.
    pub fn finish(self) -> Result<Seen, Trouble> {
        match self.count == self.pages.count {
            true => Ok(self.seen),
            false => Err(Odd(format!("{} pages are never used", self.pages.count - self.count)).into()),
        }
    }

    fn node(&mut self, number: u32, bytes: &[u8], place: Place, walking: &mut Walking<'_>) -> Result<(), Trouble> {
        let mut page = Page::parse(number, bytes, self.usable)?;
        let wanted = match walking.tree {
            Tree::Rows(_) | Tree::Table => [Kind::TableInterior, Kind::TableLeaf],
            Tree::Index => [Kind::IndexInterior, Kind::IndexLeaf],
        };
        if !wanted.contains(&page.kind) {
            return odd(number, "it is of another kind than its tree").map_err(Trouble::from);
        }
        if page.kind.is_leaf() {
            if *walking.leaves.get_or_insert(place.depth) != place.depth {
                return odd(number, "it is not as deep as other leaves").map_err(Trouble::from);
            }
            return match page.kind == Kind::TableLeaf {
                true => self.table_leaf(&mut page, place, walking),
                false => {
                    self.index_cells(&mut page, walking)?;
                    Ok(page.adds_up()?)
                }
            };
        }
        if place.depth >= DEPTH_MAX || page.cells == 0 && page.right() == 0 {
            return odd(number, "it leads nowhere").map_err(Trouble::from);
        }
        self.stop.check()?;
        let children = self.children(&mut page, place, walking)?;
        page.adds_up()?;
        let depth = place.depth + 1;
        let above = std::mem::take(&mut walking.part);
        match self.known(number, &children, depth, walking) {
            Some(group) => self.take_over(&group, number, &children, place, walking)?,
            None => self.below(number, &children, depth, walking)?,
        }
        let part = std::mem::replace(&mut walking.part, above);
        if walking.leaves == Some(depth) {
            self.seen.group(walking.name, Group::new(number, &part.tally, part.span, &part.chains));
        }
        walking.part.merge(part);
        Ok(())
    }

    /// What an earlier walk found below a page whose children are leaves, if all of it is as it was.
    fn known(&self, number: u32, children: &[(u32, Place)], depth: u32, walking: &Walking<'_>) -> Option<Group> {
        let earlier = self.earlier.filter(|_| walking.leaves == Some(depth))?;
        let there = |page: &u32| (1..=self.pages.count).contains(page);
        let same = |page: u32| there(&page) && earlier.all_same(page, 1);
        let group = earlier.map.group(walking.name, number)?;
        let mut chains = group.chains.iter();
        // Where each page of a chain is entered in a map, the chain itself has to be followed.
        let readable = self.mapped.is_none() || group.chains.is_empty();
        let all = readable
            && same(number)
            && children.iter().all(|(child, _)| same(*child))
            && chains.all(|(first, count)| there(&(first + (count - 1))) && earlier.all_same(*first, *count));
        all.then(|| group.clone())
    }

    /// Leaves that are known stand for themselves: only where they are is looked at.
    fn take_over(
        &mut self,
        group: &Group,
        parent: u32,
        children: &[(u32, Place)],
        place: Place,
        walking: &mut Walking<'_>,
    ) -> Result<(), Trouble> {
        if let Some((first, last)) = group.span {
            in_order(parent, first, place.above, None)?;
            in_order(parent, last, None, place.up_to)?;
        }
        for (child, _) in children {
            self.reach(*child, Role::Child, parent)?;
        }
        for (first, count) in &group.chains {
            (*first..first + count).try_for_each(|page| self.mark(page))?;
        }
        walking.part = Part { tally: group.tally(), span: group.span, chains: group.chains.clone() };
        Ok(())
    }

    /// The children of an interior page, in order, and the bounds of their keys.
    fn children(
        &mut self,
        page: &mut Page<'_>,
        place: Place,
        walking: &mut Walking<'_>,
    ) -> Result<Vec<(u32, Place)>, Trouble> {
        let depth = place.depth + 1;
        let right = page.right();
        let mut children = Vec::with_capacity(page.cells + 1);
        if page.kind == Kind::IndexInterior {
            let (above, up_to) = (None, None);
            self.index_cells_with(page, walking, &mut |child| children.push((child, Place { depth, above, up_to })))?;
            children.push((right, Place { depth, above, up_to }));
            return Ok(children);
        }
        let mut above = place.above;
        for at in 0..page.cells {
            let cell = page.cell(at)?;
            in_order(page.number, cell.rowid, above, place.up_to)?;
            children.push((cell.child, Place { depth, above, up_to: Some(cell.rowid) }));
            above = Some(cell.rowid);
        }
        children.push((right, Place { depth, above, up_to: place.up_to }));
        Ok(children)
    }

    /// Walks the children of a page, those that lie one behind the other together.
    fn below(
        &mut self,
        parent: u32,
        children: &[(u32, Place)],
        depth: u32,
        walking: &mut Walking<'_>,
    ) -> Result<(), Trouble> {
        let bytes = self.page.len();
        // Until a leaf was met, and above the leaves, one by one: each needs its bytes while its own children are walked.
        let run_max = if walking.leaves == Some(depth) { (RUN_BYTES / bytes).max(1) } else { 1 };
        let mut run = match run_max {
            1 => vec![0; bytes],
            _ => std::mem::take(&mut self.run),
        };
        let mut rest = children;
        while let Some((first, _)) = rest.first() {
            let alike =
                rest.iter().zip(0..).take(run_max).take_while(|((child, _), at)| *child == first.wrapping_add(*at));
            let together = alike.count();
            let (now, later) = rest.split_at(together);
            for (child, _) in now {
                self.reach(*child, Role::Child, parent)?;
            }
            self.pages.read(*first, &mut run[..together * bytes])?;
            for ((child, place), bytes) in now.iter().zip(run.chunks_exact(bytes)) {
                self.node(*child, bytes, *place, walking)?;
            }
            rest = later;
        }
        if run_max > 1 {
            self.run = run;
        }
        Ok(())
    }

    fn table_leaf(&mut self, page: &mut Page<'_>, place: Place, walking: &mut Walking<'_>) -> Result<(), Trouble> {
        let mut last = place.above;
        for at in 0..page.cells {
            let cell = page.cell(at)?;
            in_order(page.number, cell.rowid, last, place.up_to)?;
            last = Some(cell.rowid);
            walking.part.rowid(cell.rowid);
            let record = match cell.overflow {
                0 => cell.local,
                first => {
                    let payload = std::mem::take(&mut self.payload);
                    let chains = &mut walking.part;
                    self.payload = self.overflow(page.number, first, (cell.local, cell.payload), payload, chains)?;
                    &self.payload
                }
            };
            match walking.tree {
                Tree::Rows(shape) => {
                    add(&mut walking.part.tally, &mut self.row, shape, (cell.rowid, record), walking.ask)?;
                }
                Tree::Table | Tree::Index => walking.part.tally.rows += 1,
            }
        }
        if self.payload.capacity() > 16 << 20 {
            self.payload = Vec::new();
        }
        Ok(page.adds_up()?)
    }

    fn index_cells(&mut self, page: &mut Page<'_>, walking: &mut Walking<'_>) -> Result<(), Trouble> {
        self.index_cells_with(page, walking, &mut |_| ())
    }

    fn index_cells_with(
        &mut self,
        page: &mut Page<'_>,
        walking: &mut Walking<'_>,
        hear: &mut dyn FnMut(u32),
    ) -> Result<(), Trouble> {
        for at in 0..page.cells {
            let cell = page.cell(at)?;
            if cell.overflow != 0 {
                let payload = std::mem::take(&mut self.payload);
                let (local, chains) = ((cell.local, cell.payload), &mut walking.part);
                self.payload = self.overflow(page.number, cell.overflow, local, payload, chains)?;
            }
            hear(cell.child);
        }
        walking.part.tally.rows += page.cells as u64;
        Ok(())
    }

    /// Follows a chain of overflow pages and gives the whole payload.
    fn overflow(
        &mut self,
        page: u32,
        first: u32,
        (local, payload): (&[u8], u64),
        mut whole: Vec<u8>,
        part: &mut Part,
    ) -> Result<Vec<u8>, Trouble> {
        whole.clear();
        if payload > u64::from(self.pages.count) * self.page.len() as u64 {
            return odd(page, "a payload is longer than the file").map_err(Trouble::from);
        }
        whole.extend_from_slice(local);
        let (mut next, mut role, mut parent) = (first, Role::Overflow, page);
        let mut missing = payload as usize - local.len();
        while missing > 0 {
            self.reach(next, role, parent)?;
            part.chained(next);
            let mut bytes = std::mem::take(&mut self.page);
            let read = self.pages.read(next, &mut bytes);
            self.page = bytes;
            read?;
            let here = missing.min(self.usable - 4);
            whole.extend_from_slice(&self.page[4..4 + here]);
            missing -= here;
            (parent, role, next) = (next, Role::OverflowNext, long(&self.page, 0));
        }
        match next {
            0 => Ok(whole),
            _ => odd(page, "a chain of overflow pages is too long").map_err(Trouble::from),
        }
    }

    /// The pages of an auto-vacuum database's map, and the page with the lock bytes.
    fn special_pages(&mut self) -> Result<(), Trouble> {
        let lock = self.lock_page();
        if lock <= self.pages.count {
            self.mark(lock)?;
        }
        if let Some(mapped) = self.mapped {
            let mut map = 2_u32;
            while map <= self.pages.count {
                let place = if map == lock { map + 1 } else { map };
                if place <= self.pages.count {
                    self.mark(place)?;
                }
                map = map.saturating_add(mapped);
            }
        }
        Ok(())
    }

    fn lock_page(&self) -> u32 {
        (LOCK_BYTE / self.page.len() as u64) as u32 + 1
    }

    fn free_pages(&mut self, first: u32, count: u32) -> Result<(), Trouble> {
        let (mut trunk, mut found) = (first, 0_u32);
        let mut bytes = vec![0; self.page.len()];
        while trunk != 0 {
            self.stop.check()?;
            self.reach(trunk, Role::Free, 0)?;
            self.pages.read(trunk, &mut bytes)?;
            let leaves = long(&bytes, 4);
            if leaves as usize > self.usable / 4 - 2 {
                return odd(trunk, "it lists too many free pages").map_err(Trouble::from);
            }
            for at in 0..leaves as usize {
                self.reach(long(&bytes, 8 + at * 4), Role::Free, 0)?;
            }
            found = found.saturating_add(leaves + 1);
            trunk = long(&bytes, 0);
        }
        match found == count {
            true => Ok(()),
            false => Err(Odd(format!("{found} pages are free, and its header says {count}")).into()),
        }
    }

    /// Comes to a page, for the first and only time.
    fn reach(&mut self, number: u32, role: Role, parent: u32) -> Result<(), Trouble> {
        self.mark(number)?;
        if self.mapped.is_some() && number > 1 {
            self.look_up(number, role, parent)?;
        }
        Ok(())
    }

    fn mark(&mut self, number: u32) -> Result<(), Trouble> {
        if number == 0 || number > self.pages.count {
            return odd(number, "there is no such page").map_err(Trouble::from);
        }
        let (word, bit) = (&mut self.reached[number as usize / 64], 1_u64 << (number % 64));
        if *word & bit != 0 {
            return odd(number, "it is used twice").map_err(Trouble::from);
        }
        *word |= bit;
        self.count += 1;
        self.touched |= self.earlier.is_none_or(|earlier| earlier.scanned.is_changed(number));
        if self.count.is_multiple_of(4096) {
            self.stop.check()?;
            (self.progress)(u64::from(self.count) * self.page.len() as u64);
        }
        Ok(())
    }

    /// Looks whether the map says the same about a page.
    fn look_up(&self, number: u32, role: Role, parent: u32) -> Result<(), Trouble> {
        let Some(mapped) = self.mapped else { return Ok(()) };
        let mut map = (number - 2) / mapped * mapped + 2;
        if map == self.lock_page() {
            map += 1;
        }
        let inside = number.checked_sub(map + 1).map(|at| at as usize * 5).filter(|at| at + 5 <= self.usable);
        let Some(at) = inside else { return odd(number, "it has no place in the map").map_err(Trouble::from) };
        let mut entry = [0; 5];
        self.pages.read_part(map, at, &mut entry)?;
        let told = (entry[0], u32::from_be_bytes([entry[1], entry[2], entry[3], entry[4]]));
        match told == (role as u8, parent) {
            true => Ok(()),
            false => odd(number, "the map says something else about it").map_err(Trouble::from),
        }
    }
}

#[inline]
fn in_order(page: u32, rowid: i64, above: Option<i64>, up_to: Option<i64>) -> Result<(), Odd> {
    match above.is_none_or(|above| rowid > above) && up_to.is_none_or(|up_to| rowid <= up_to) {
        true => Ok(()),
        false => odd(page, "its rowids are in disorder"),
    }
}
