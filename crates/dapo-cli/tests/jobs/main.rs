//! `mpirun dapo train`: the same run folder at any number of ranks, and what faults of a rank lead to.
//!
//! `scripts/mpi-check` builds and runs it; `scripts/mpi-namespaces` its tests on two machines.

#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod evaluations;
mod faults;
mod folders;
mod full_disk;
mod inputs;
mod job;
mod machines;
mod numbers;
