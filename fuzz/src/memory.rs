//! An allocator that counts, and refuses a thread more than it was promised to need.
//!
//! The only unsafe code of this project, and no part of the program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub struct Counting;

thread_local! {
    /// Bytes that this thread allocated and did not free; below zero where others' are freed.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(isize::MAX) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Whether this thread may have so many bytes more. Beyond, an allocation fails and the process is aborted with its size.
fn takes(bytes: usize) -> bool {
    let most = MOST.try_with(Cell::get).unwrap_or(isize::MAX);
    HELD.try_with(|held| {
        let all = held.get().saturating_add_unsigned(bytes);
        // Who says what went wrong may take what that needs.
        if all > most && !std::thread::panicking() {
            return false;
        }
        held.set(all);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(all)));
        true
    })
    .unwrap_or(true)
}

fn gives_back(bytes: usize) {
    let _ = HELD.try_with(|held| held.set(held.get().saturating_sub_unsigned(bytes)));
}

// SAFETY: all of it is the system's allocator; what is added touches numbers of this thread only, and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match takes(layout.size()) {
            true => unsafe { System.alloc(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match takes(layout.size()) {
            true => unsafe { System.alloc_zeroed(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        gives_back(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let more = size.saturating_sub(layout.size());
        if more > 0 && !takes(more) {
            return std::ptr::null_mut();
        }
        gives_back(layout.size().saturating_sub(size));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `f`, in which this thread may hold at most so many bytes more than before; returns the most that it held.
pub fn within(bytes: usize, f: impl FnOnce()) -> usize {
    struct Unlimited;
    impl Drop for Unlimited {
        fn drop(&mut self) {
            MOST.set(isize::MAX);
        }
    }
    let before = HELD.get();
    PEAK.set(before);
    MOST.set(before.saturating_add_unsigned(bytes));
    let unlimited = Unlimited;
    f();
    drop(unlimited);
    usize::try_from(PEAK.get().saturating_sub(before)).unwrap_or(0)
}
