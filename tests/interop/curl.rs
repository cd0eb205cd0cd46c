//! curl against `/v3`.
