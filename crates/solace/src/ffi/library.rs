//! The library as a whole: its start, its log, and its return codes as results.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::catch_unwind;
use std::ptr;
use std::sync::OnceLock;

use solace_rs_sys as sys;

use crate::failure::Failure;

pub(super) const OK: sys::solClient_returnCode_t = sys::solClient_returnCode_SOLCLIENT_OK;
const IN_PROGRESS: sys::solClient_returnCode_t = sys::solClient_returnCode_SOLCLIENT_IN_PROGRESS;

/// Starts the library once per process.
pub(super) fn initialize() -> Result<(), Failure> {
    static STARTED: OnceLock<Result<(), Failure>> = OnceLock::new();
    STARTED.get_or_init(start_library).clone()
}

/// Blocks of the C library's allocator that are this large are mapped by themselves, and go back to the system when freed.
/// By default the allocator keeps up to twice the largest message in each of its arenas.
#[cfg(target_env = "gnu")]
const OWN_BLOCK_BYTES: c_int = 1 << 20;
/// `M_MMAP_THRESHOLD` of `malloc.h`.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD: c_int = -3;

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    fn mallopt(parameter: c_int, value: c_int) -> c_int;
}

fn start_library() -> Result<(), Failure> {
    #[cfg(target_env = "gnu")]
    // SAFETY: plain numbers, and a parameter that may be set at any time.
    unsafe {
        mallopt(MMAP_THRESHOLD, OWN_BLOCK_BYTES);
    }
    // SAFETY: null properties mean the defaults; the log callback is a function for ever.
    let code = unsafe {
        sys::solClient_log_setCallback(Some(on_log), ptr::null_mut());
        sys::solClient_initialize(
            sys::solClient_log_level_SOLCLIENT_LOG_NOTICE,
            ptr::null_mut::<*const c_char>(),
        )
    };
    check(code)
}

/// The library's own log, kept at debug: what matters arrives as events and return codes.
unsafe extern "C" fn on_log(info: sys::solClient_log_callbackInfo_pt, _: *mut c_void) {
    // SAFETY: the library passes a valid record with a NUL-terminated text, or null.
    let text = unsafe { info.as_ref() }.map(|info| unsafe { text_of(info.msg_p) });
    if let Some(text) = text {
        let logged = catch_unwind(|| tracing::debug!(text = text.trim_end(), "client library"));
        drop(logged);
    }
}

/// # Safety
/// `text` is null or points to a NUL-terminated string.
unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

pub(super) fn check(code: sys::solClient_returnCode_t) -> Result<(), Failure> {
    if code == OK || code == IN_PROGRESS { Ok(()) } else { Err(last_failure(code)) }
}

/// What the library says about the last failed call on this thread.
fn last_failure(code: sys::solClient_returnCode_t) -> Failure {
    // SAFETY: the library returns a record of this thread, which stays until its next call.
    let info = unsafe { sys::solClient_getLastErrorInfo().as_ref() };
    let Some(info) = info else { return Failure::new(0, "", format!("return code {code}")) };
    // SAFETY: both texts are NUL-terminated and static or part of the record.
    let (name, text) = unsafe {
        (text_of(sys::solClient_subCodeToString(info.subCode)), text_of(info.errorStr.as_ptr()))
    };
    Failure::new(info.subCode, &name, text)
}

/// The failure that an event carries: the subcode of the thread, the broker's own words.
pub(super) fn event_failure(info: *const c_char) -> Failure {
    // SAFETY: the library passes null or a NUL-terminated text.
    let words = unsafe { text_of(info) };
    let last = last_failure(OK);
    if words.is_empty() { last } else { last.with_text(words) }
}
