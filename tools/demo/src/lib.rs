//! The whole system on one machine: [`System`] starts both services as processes with everything
//! they need; [`tour`] sends one book through it and checks what can be seen of it.

pub mod failure;
pub mod system;
pub mod tour;
pub mod trace;

pub use system::System;
