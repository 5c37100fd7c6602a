//! The servers and clients that the build script generated.
#![allow(
    unreachable_pub,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    reason = "generated"
)]

tonic::include_proto!("shop.Shop");
tonic::include_proto!("shop.Stock");
