//! The boundary to the vendor's C library: the only unsafe code of the program.
//!
//! What leaves this file is owned and safe: a [`Context`] (the library's thread), a [`Session`] (a
//! connection), a [`Flow`] (a consumer of a queue) and a [`Delivery`] (a message, readable while its
//! callback runs). A flow keeps its session alive and a session its context, so they are destroyed
//! in the order that the library wants.
//!
//! Callbacks run on the library's thread. They must not block, and no panic may leave them.
#![expect(unsafe_code, reason = "the client library has a C interface")]

use std::ffi::{CString, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use solace_rs_sys as sys;

use crate::failure::Failure;

mod delivery;
mod library;
mod outbound;
mod properties;

pub(super) use delivery::Delivery;
use library::{check, event_failure, initialize};
pub(super) use outbound::Outbound;
pub(super) use properties::Properties;

/// The header's macros for "no file descriptor functions": the library's own thread does the work.
const NO_FD_FUNCTIONS: sys::solClient_context_createFuncInfo_t =
    sys::solClient_context_createFuncInfo {
        regFdInfo: sys::solClient_context_createRegisterFdFuncInfo {
            regFdFunc_p: None,
            unregFdFunc_p: None,
            user_p: ptr::null_mut(),
        },
    };

/// What a session tells; called on the library's thread.
pub(super) trait SessionHandler: Send + Sync + 'static {
    fn on_event(&self, event: SessionEvent);
}

/// What a flow tells; called on the library's thread.
pub(super) trait FlowHandler: Send + Sync + 'static {
    fn on_message(&self, message: &Delivery<'_>);
    fn on_event(&self, event: FlowEvent);
    /// A callback panicked: what it was told is lost.
    fn on_panic(&self);
}

#[derive(Debug)]
pub(super) enum SessionEvent {
    Up,
    /// The connection is gone and the library has given up on it.
    Down(Failure),
    ConnectFailed(Failure),
    Reconnecting(Failure),
    Reconnected,
    /// The broker has stored the message with this tag. After a reconnect it may say so again.
    Acknowledged(u64),
    Rejected(u64, Failure),
    Other,
}

#[derive(Debug)]
pub(super) enum FlowEvent {
    Up,
    BindFailed(Failure),
    Down(Failure),
    SessionDown,
    Reconnecting(Failure),
    Reconnected,
    Active,
    Inactive,
    Other,
}

/// The library's thread; sessions run on it.
pub(super) struct Context {
    raw: sys::solClient_opaqueContext_pt,
}

// SAFETY: the library's handles may be used from any thread.
unsafe impl Send for Context {}
// SAFETY: as above; the library locks inside.
unsafe impl Sync for Context {}

impl Context {
    pub(super) fn new() -> Result<Self, Failure> {
        initialize()?;
        let mut properties = Properties::new();
        properties.set(sys::SOLCLIENT_CONTEXT_PROP_CREATE_THREAD, "1")?;
        let mut raw = ptr::null_mut();
        let mut functions = NO_FD_FUNCTIONS;
        // SAFETY: all pointers outlive the call; the library copies what it keeps.
        let code = unsafe {
            sys::solClient_context_create(
                properties.pointers().as_mut_ptr(),
                &mut raw,
                &mut functions,
                size_of_val(&functions),
            )
        };
        check(code).map(|()| Self { raw })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: created by us, destroyed once; every session held an `Arc` of it and is gone.
        unsafe { sys::solClient_context_destroy(&mut self.raw) };
    }
}

/// A connection to the broker, connected or not.
pub(super) struct Session {
    raw: sys::solClient_opaqueSession_pt,
    handler: *mut Box<dyn SessionHandler>,
    _context: Arc<Context>,
}

// SAFETY: the library's handles may be used from any thread, and the handler is `Send + Sync`.
unsafe impl Send for Session {}
// SAFETY: as above.
unsafe impl Sync for Session {}

impl Session {
    pub(super) fn new(
        context: Arc<Context>,
        properties: &Properties,
        handler: Box<dyn SessionHandler>,
    ) -> Result<Self, Failure> {
        let handler = Box::into_raw(Box::new(handler));
        let mut functions = sys::solClient_session_createFuncInfo {
            rxInfo: sys::solClient_session_createRxCallbackFuncInfo {
                callback_p: ptr::null_mut(),
                user_p: ptr::null_mut(),
            },
            eventInfo: sys::solClient_session_createEventCallbackFuncInfo {
                callback_p: Some(on_session_event),
                user_p: handler.cast(),
            },
            rxMsgInfo: sys::solClient_session_createRxMsgCallbackFuncInfo {
                callback_p: Some(on_direct_message),
                user_p: ptr::null_mut(),
            },
        };
        let mut raw = ptr::null_mut();
        // SAFETY: all pointers outlive the call; the handler outlives the session (see `drop`).
        let code = unsafe {
            sys::solClient_session_create(
                properties.pointers().as_mut_ptr(),
                context.raw,
                &mut raw,
                &mut functions,
                size_of_val(&functions),
            )
        };
        // From here on `drop` frees the handler, also if the call failed and `raw` is null.
        let session = Self { raw, handler, _context: context };
        check(code).map(|()| session)
    }

    /// Starts to connect; an event tells the outcome. May be called again after a failure.
    pub(super) fn connect(&self) -> Result<(), Failure> {
        // SAFETY: the session is alive.
        check(unsafe { sys::solClient_session_connect(self.raw) })
    }

    pub(super) fn disconnect(&self) -> Result<(), Failure> {
        // SAFETY: the session is alive.
        check(unsafe { sys::solClient_session_disconnect(self.raw) })
    }

    /// Creates the endpoint unless it exists; waits for the broker's answer.
    pub(super) fn provision(&self, endpoint: &Properties) -> Result<(), Failure> {
        let flags = sys::SOLCLIENT_PROVISION_FLAGS_WAITFORCONFIRM
            | sys::SOLCLIENT_PROVISION_FLAGS_IGNORE_EXIST_ERRORS;
        // SAFETY: all pointers outlive the call; no correlation tag and no name buffer are given.
        let code = unsafe {
            sys::solClient_session_endpointProvision(
                endpoint.pointers().as_mut_ptr(),
                self.raw,
                flags,
                ptr::null_mut(),
                ptr::null_mut(),
                0,
            )
        };
        check(code)
    }

    /// Adds a topic to the endpoint; waits for the broker's answer.
    pub(super) fn subscribe(&self, endpoint: &Properties, topic: &str) -> Result<(), Failure> {
        let topic = CString::new(topic).map_err(|_| Failure::nul("topic"))?;
        // SAFETY: all pointers outlive the call; no correlation tag is given.
        let code = unsafe {
            sys::solClient_session_endpointTopicSubscribe(
                endpoint.pointers().as_mut_ptr(),
                self.raw,
                sys::SOLCLIENT_SUBSCRIBE_FLAGS_WAITFORCONFIRM,
                topic.as_ptr(),
                ptr::null_mut(),
            )
        };
        check(code)
    }

    /// Hands the message to the library, which keeps a copy until the broker has acknowledged it;
    /// blocks while the publish window is closed or the connection is down.
    pub(super) fn send(&self, message: &Outbound) -> Result<(), Failure> {
        // SAFETY: session and message are alive; the library copies the message.
        check(unsafe { sys::solClient_session_sendMsg(self.raw, message.raw()) })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: created by us, destroyed once, with no flow left (flows hold an `Arc` of it). The
        // library calls the handler no more after destroy, so it can be freed.
        unsafe {
            if !self.raw.is_null() {
                sys::solClient_session_destroy(&mut self.raw);
            }
            drop(Box::from_raw(self.handler));
        }
    }
}

unsafe extern "C" fn on_direct_message(
    _: sys::solClient_opaqueSession_pt,
    _: sys::solClient_opaqueMsg_pt,
    _: *mut c_void,
) -> sys::solClient_rxMsgCallback_returnCode_t {
    sys::solClient_rxMsgCallback_returnCode_SOLCLIENT_CALLBACK_OK
}

unsafe extern "C" fn on_session_event(
    _: sys::solClient_opaqueSession_pt,
    info: sys::solClient_session_eventCallbackInfo_pt,
    user: *mut c_void,
) {
    // SAFETY: `user` is the handler given to `create`, alive until destroy; `info` is valid here.
    let (info, handler) =
        unsafe { (info.as_ref(), user.cast::<Box<dyn SessionHandler>>().as_ref()) };
    if let (Some(info), Some(handler)) = (info, handler) {
        let event = session_event(info);
        let told = catch_unwind(AssertUnwindSafe(|| handler.on_event(event)));
        drop(told);
    }
}

fn session_event(info: &sys::solClient_session_eventCallbackInfo) -> SessionEvent {
    match info.sessionEvent {
        sys::solClient_session_event_SOLCLIENT_SESSION_EVENT_UP_NOTICE => SessionEvent::Up,
        sys::solClient_session_event_SOLCLIENT_SESSION_EVENT_DOWN_ERROR => {
            SessionEvent::Down(event_failure(info.info_p))
        }
        sys::solClient_session_event_SOLCLIENT_SESSION_EVENT_CONNECT_FAILED_ERROR => {
            SessionEvent::ConnectFailed(event_failure(info.info_p))
        }
        sys::solClient_session_event_SOLCLIENT_SESSION_EVENT_RECONNECTING_NOTICE => {
            SessionEvent::Reconnecting(event_failure(info.info_p))
        }
        sys::solClient_session_event_SOLCLIENT_SESSION_EVENT_RECONNECTED_NOTICE => {
            SessionEvent::Reconnected
        }
        sys::solClient_session_event_SOLCLIENT_SESSION_EVENT_ACKNOWLEDGEMENT => {
            SessionEvent::Acknowledged(tag_of(info.correlation_p))
        }
        sys::solClient_session_event_SOLCLIENT_SESSION_EVENT_REJECTED_MSG_ERROR => {
            SessionEvent::Rejected(tag_of(info.correlation_p), event_failure(info.info_p))
        }
        _ => SessionEvent::Other,
    }
}

/// The tag that [`Outbound::set_tag`] put on the message.
fn tag_of(correlation: *mut c_void) -> u64 {
    if correlation.is_null() {
        return 0;
    }
    // SAFETY: not null, so it is the library's copy of the eight bytes that `set_tag` gave it.
    unsafe { correlation.cast::<u64>().read_unaligned() }
}

/// A consumer of a queue.
pub(super) struct Flow {
    raw: sys::solClient_opaqueFlow_pt,
    handler: *mut Box<dyn FlowHandler>,
    _session: Arc<Session>,
}

// SAFETY: the library's handles may be used from any thread, and the handler is `Send + Sync`.
unsafe impl Send for Flow {}
// SAFETY: as above.
unsafe impl Sync for Flow {}

impl Flow {
    /// Starts to bind; an event tells the outcome.
    pub(super) fn bind(
        session: Arc<Session>,
        properties: &Properties,
        handler: Box<dyn FlowHandler>,
    ) -> Result<Self, Failure> {
        let handler = Box::into_raw(Box::new(handler));
        let mut functions = sys::solClient_flow_createFuncInfo {
            rxInfo: sys::solClient_flow_createRxCallbackFuncInfo {
                callback_p: ptr::null_mut(),
                user_p: ptr::null_mut(),
            },
            eventInfo: sys::solClient_flow_createEventCallbackFuncInfo {
                callback_p: Some(on_flow_event),
                user_p: handler.cast(),
            },
            rxMsgInfo: sys::solClient_flow_createRxMsgCallbackFuncInfo {
                callback_p: Some(on_flow_message),
                user_p: handler.cast(),
            },
        };
        let mut raw = ptr::null_mut();
        // SAFETY: all pointers outlive the call; the handler outlives the flow (see `drop`).
        let code = unsafe {
            sys::solClient_session_createFlow(
                properties.pointers().as_mut_ptr(),
                session.raw,
                &mut raw,
                &mut functions,
                size_of_val(&functions),
            )
        };
        // From here on `drop` frees the handler, also if the call failed and `raw` is null.
        let flow = Self { raw, handler, _session: session };
        check(code).map(|()| flow)
    }

    /// Opens the window: messages come.
    pub(super) fn start(&self) -> Result<(), Failure> {
        // SAFETY: the flow is alive.
        check(unsafe { sys::solClient_flow_start(self.raw) })
    }

    /// Closes the window; up to a window of messages may still come.
    pub(super) fn stop(&self) -> Result<(), Failure> {
        // SAFETY: the flow is alive.
        check(unsafe { sys::solClient_flow_stop(self.raw) })
    }

    /// Acknowledges one message of this flow; the library sends it within its ack timer.
    pub(super) fn ack(&self, id: u64) -> Result<(), Failure> {
        // SAFETY: the flow is alive; an id that it does not know is an error of the call.
        check(unsafe { sys::solClient_flow_sendAck(self.raw, id) })
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // SAFETY: created by us, destroyed once, and never inside its callbacks, since no handler
        // owns a flow. The library calls the handler no more after destroy.
        unsafe {
            if !self.raw.is_null() {
                sys::solClient_flow_destroy(&mut self.raw);
            }
            drop(Box::from_raw(self.handler));
        }
    }
}

unsafe extern "C" fn on_flow_message(
    _: sys::solClient_opaqueFlow_pt,
    message: sys::solClient_opaqueMsg_pt,
    user: *mut c_void,
) -> sys::solClient_rxMsgCallback_returnCode_t {
    // SAFETY: `user` is the handler given to `create`, alive until destroy.
    if let Some(handler) = unsafe { user.cast::<Box<dyn FlowHandler>>().as_ref() } {
        // SAFETY: the message is the library's and valid until this callback returns.
        let delivery = unsafe { Delivery::new(message) };
        if catch_unwind(AssertUnwindSafe(|| handler.on_message(&delivery))).is_err() {
            handler.on_panic();
        }
    }
    // Everything was copied out, so the library may reuse the message.
    sys::solClient_rxMsgCallback_returnCode_SOLCLIENT_CALLBACK_OK
}

unsafe extern "C" fn on_flow_event(
    _: sys::solClient_opaqueFlow_pt,
    info: sys::solClient_flow_eventCallbackInfo_pt,
    user: *mut c_void,
) {
    // SAFETY: `user` is the handler given to `create`, alive until destroy; `info` is valid here.
    let (info, handler) = unsafe { (info.as_ref(), user.cast::<Box<dyn FlowHandler>>().as_ref()) };
    if let (Some(info), Some(handler)) = (info, handler) {
        let event = flow_event(info);
        if catch_unwind(AssertUnwindSafe(|| handler.on_event(event))).is_err() {
            handler.on_panic();
        }
    }
}

fn flow_event(info: &sys::solClient_flow_eventCallbackInfo) -> FlowEvent {
    match info.flowEvent {
        sys::solClient_flow_event_SOLCLIENT_FLOW_EVENT_UP_NOTICE => FlowEvent::Up,
        sys::solClient_flow_event_SOLCLIENT_FLOW_EVENT_BIND_FAILED_ERROR => {
            FlowEvent::BindFailed(event_failure(info.info_p))
        }
        sys::solClient_flow_event_SOLCLIENT_FLOW_EVENT_DOWN_ERROR => {
            FlowEvent::Down(event_failure(info.info_p))
        }
        sys::solClient_flow_event_SOLCLIENT_FLOW_EVENT_SESSION_DOWN => FlowEvent::SessionDown,
        sys::solClient_flow_event_SOLCLIENT_FLOW_EVENT_RECONNECTING => {
            FlowEvent::Reconnecting(event_failure(info.info_p))
        }
        sys::solClient_flow_event_SOLCLIENT_FLOW_EVENT_RECONNECTED => FlowEvent::Reconnected,
        sys::solClient_flow_event_SOLCLIENT_FLOW_EVENT_ACTIVE => FlowEvent::Active,
        sys::solClient_flow_event_SOLCLIENT_FLOW_EVENT_INACTIVE => FlowEvent::Inactive,
        _ => FlowEvent::Other,
    }
}
