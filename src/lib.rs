//! DAPO
