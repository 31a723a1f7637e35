//! Metrics exposition: model, encoders, parsers, and the HTTP server every daemon uses.
