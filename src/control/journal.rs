//! Lines of the journal of transfers, given out as they are found.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::Response;
use crate::transfers::{Transfer, Transfers, Wanted};

/// Lines in one piece.
const PIECE_MAX: usize = 200;
/// A piece that is not full goes out after this long.
const PIECE_WAIT: Duration = Duration::from_millis(100);

/// Gives the lines out in [`Response::Transfers`], the end in [`Response::Journal`], until the taker breaks.
pub(super) fn search(
    transfers: &Transfers,
    wanted: &Wanted,
    give: &mut dyn FnMut(Response) -> ControlFlow<()>,
) {
    let mut piece: Vec<Transfer> = Vec::new();
    let mut sent = Instant::now();
    let mut gone = false;
    let searched = transfers.search(wanted, &mut |transfer| {
        piece.push(transfer);
        if piece.len() < PIECE_MAX && sent.elapsed() < PIECE_WAIT {
            return ControlFlow::Continue(());
        }
        sent = Instant::now();
        let flow = give(Response::Transfers(std::mem::take(&mut piece)));
        gone = flow.is_break();
        flow
    });
    if gone || (!piece.is_empty() && give(Response::Transfers(piece)).is_break()) {
        return;
    }
    let _ = give(match searched {
        Ok(end) => Response::Journal(end),
        Err(reason) => Response::Failed { reason },
    });
}
