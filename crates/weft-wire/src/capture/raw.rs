//! The unsafe island: file descriptors that arrive from outside of Rust's sight, and what runs between fork and exec.
#![allow(unsafe_code, reason = "the one module of the workspace that may; each block says why it is sound")]

use super::{confine, message::MESSAGE_BYTES_MAX};
use nix::{
    cmsg_space,
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};
use std::{
    io::{self, IoSliceMut},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
};

/// File descriptors in one message; the kernel allows 253.
pub(crate) const FDS_MAX: usize = 240;

/// Receives one message and the file descriptors that came with it. An empty message means that the other side is gone.
pub(super) fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut control = cmsg_space!([RawFd; FDS_MAX]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let length = received.bytes;
    let mut fds = Vec::new();
    // An error means that this process has no file descriptors left, and the message comes without.
    for part in received.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel has just opened these for this process, and nobody else knows their numbers.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    bytes.truncate(length);
    Ok((bytes, fds))
}

/// Owns a file descriptor that the kernel has just made for this process.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass what accept(2) has returned a moment ago; nobody else knows the number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Takes over the file descriptor that this process was started with, and keeps it from its children.
pub(super) fn claim_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is only borrowed to ask the kernel; a wrong one gives EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: the parent opened it for this process and told its number; this is called once, before anything else opens files.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets the child of `command` inherit `fd`, and no other child.
pub(super) fn inherit(command: &mut Command, fd: RawFd) {
    let keep_open = move || {
        // SAFETY: the caller keeps `fd` open until the child is spawned, and the child has a copy of it.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(())
    };
    // SAFETY: between fork and exec only fcntl is called, which is async-signal-safe.
    unsafe { command.pre_exec(keep_open) };
}

/// Lets the child of `command` give up all privileges before it becomes the program. The caller is single-threaded.
pub(super) fn confine_child(command: &mut Command) {
    // SAFETY: the agent has one thread, so that no lock can be held by another one at the fork; allocation is then allowed.
    unsafe { command.pre_exec(confine::give_up_privileges) };
}

/// Forgets the resident pages of a read-only, executable mapping of a file; true when the kernel did.
pub(super) fn forget_clean_code(start: usize, length: usize) -> bool {
    let Some(address) = std::ptr::NonNull::new(std::ptr::without_provenance_mut(start)) else { return false };
    // SAFETY: the caller names a mapping without write permission of this program's own file, privately mapped and never written:
    // a forgotten page is read from the file again, byte for byte, when it is next executed.
    unsafe { nix::sys::mman::madvise(address, length, nix::sys::mman::MmapAdvise::MADV_DONTNEED) }.is_ok()
}
