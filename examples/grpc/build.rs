//! Generates the servers and clients of the two services. With `.proto` files, a build script calls
//! tonic-prost-build instead.

use tonic_build::manual::{Builder, Method, MethodBuilder, Service};

fn main() {
    let method = |name: &str, route: &str| -> MethodBuilder {
        let method = Method::builder().name(name).route_name(route);
        let method = method
            .input_type("crate::Order")
            .output_type("crate::Level");
        method.codec_path("tonic_prost::ProstCodec")
    };
    let service = |name: &str| Service::builder().name(name).package("shop");
    let shop = service("Shop").method(method("sell", "Sell").build());
    let stock = service("Stock")
        .method(method("reserve", "Reserve").build())
        .method(method("watch", "Watch").server_streaming().build());
    Builder::new().compile(&[shop.build(), stock.build()]);
}
