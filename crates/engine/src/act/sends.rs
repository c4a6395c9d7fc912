//! Sending a plain file elsewhere. It counts when it was read back and is what it was here.

use std::path::Path;

use lifeboat_io::{
    ObjectErrorKind, ObjectStore,
    objects::parts::{SendError, Sent, digest_of_file, look_through, put_file},
};
use lifeboat_model::{Elsewhere, Failure, FailureKind, Timestamp};
use serde_json::{Value, json};

use super::{Hands, errors::path_failure};
use crate::perform::Context;

/// As many files of one day are looked at, and not more.
const SAME_DAY_MAX: u32 = 100;

/// Sends a file under the day's name, or the next one of that day when another file has it. One that is there already is not
/// sent again.
pub fn send(
    hands: &Hands,
    file: &Path,
    to: &Elsewhere,
    of: Timestamp,
    context: &Context<'_>,
) -> Result<Value, Failure> {
    let store = hands.vaults.objects(&to.place)?;
    let ours = digest_of_file(file, context.stop).map_err(|error| failure(&error))?;
    let (key, is_there) = free_name(&*store, to, of, &ours, context)?;
    let told = |was_there: bool| json!({ "place": store.place(), "name": key, "bytes": ours.bytes, "digest": ours.digest, "was_there": was_there });
    if is_there {
        return Ok(told(true));
    }
    let progress = |done, total| context.watch.progress(done, Some(total));
    put_file(&*store, &key, file, context.stop, &progress)
        .map_err(|error| failure(&error).while_doing(format!("{key} was not sent to {}", store.place())))?;
    let came = look_through(&*store, &key, context.stop, &|_, _| ())
        .map_err(|error| failure(&error).while_doing(format!("{key} in {} cannot be read back", store.place())))?;
    if came != ours {
        // What is not what it was must not lie there as if it were.
        store.delete(&key).map_err(|error| failure(&SendError::Object(error)))?;
        let message = format!("{key} did not arrive in {} as it is here, and was taken away there", store.place());
        let failure = Failure::new(FailureKind::Outside, message);
        return Err(
            failure.hint("run it again; when it happens again, look for failing memory, a failing disk, or a proxy")
        );
    }
    Ok(told(false))
}

/// The name for a file, and whether that very file has it already. Nothing is written over.
fn free_name(
    store: &dyn ObjectStore,
    to: &Elsewhere,
    of: Timestamp,
    ours: &Sent,
    context: &Context<'_>,
) -> Result<(String, bool), Failure> {
    for number in 1..=SAME_DAY_MAX {
        let key = to.name_of(of, number);
        match store.size(&key) {
            Err(error) if error.kind == ObjectErrorKind::Missing => return Ok((key, false)),
            Err(error) => return Err(failure(&SendError::Object(error))),
            Ok(bytes) if bytes != ours.bytes => {}
            Ok(_) => {
                let there = look_through(store, &key, context.stop, &|_, _| ()).map_err(|error| failure(&error))?;
                if there == *ours {
                    return Ok((key, true));
                }
            }
        }
    }
    let message = format!("{} has {SAME_DAY_MAX} other files of that day", store.place());
    Err(Failure::new(FailureKind::Refused, message).hint("send less often, or clear that place up"))
}

fn failure(error: &SendError) -> Failure {
    match error {
        SendError::File(error) => path_failure(error),
        SendError::Stopped(stopped) => Failure::from_error(FailureKind::Interrupted, stopped),
        SendError::Object(error) => {
            let kind = match error.kind {
                ObjectErrorKind::Denied => FailureKind::Refused,
                ObjectErrorKind::Damaged => FailureKind::Damaged,
                ObjectErrorKind::Missing
                | ObjectErrorKind::Temporary
                | ObjectErrorKind::Full
                | ObjectErrorKind::Other => FailureKind::Outside,
            };
            Failure::from_error(kind, error)
        }
    }
}
