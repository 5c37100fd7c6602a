//! Two gRPC services and their client, in one trace: `grpc stock ADDRESS`, `grpc shop ADDRESS
//! STOCK-URL`, and `grpc buy SHOP-URL`. The shop calls a method of the stock, and reads a stream.

mod generated;

use std::env;

use anyhow::{Result, bail};
use telemetry_common::{
    builder,
    grpc::{self, ClientService},
    service,
};
use tokio::{net::TcpListener, signal::ctrl_c};
use tokio_stream::{Iter, iter, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status,
    service::Routes,
    transport::{Channel, Endpoint, Server, server::TcpConnectInfo},
};
use tower::ServiceBuilder;

use generated::{shop_client::ShopClient, shop_server, stock_client::StockClient, stock_server};

/// An order of some items.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Order {
    #[prost(uint32, tag = "1")]
    quantity: u32,
}

/// The number of items that are left.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Level {
    #[prost(uint32, tag = "1")]
    left: u32,
}

struct Stock;

#[tonic::async_trait]
impl stock_server::Stock for Stock {
    async fn reserve(&self, order: Request<Order>) -> Result<Response<Level>, Status> {
        let left = 10_u32.checked_sub(order.into_inner().quantity);
        let left = left.ok_or(Status::resource_exhausted("the stock has 10 items"))?;
        Ok(Response::new(Level { left }))
    }

    type WatchStream = Iter<std::vec::IntoIter<Result<Level, Status>>>;

    async fn watch(&self, _: Request<Order>) -> Result<Response<Self::WatchStream>, Status> {
        let levels = [9, 8, 7].map(|left| Ok(Level { left }));
        Ok(Response::new(iter(levels.to_vec())))
    }
}

struct Shop(StockClient<ClientService<Channel>>);

#[tonic::async_trait]
impl shop_server::Shop for Shop {
    async fn sell(&self, order: Request<Order>) -> Result<Response<Level>, Status> {
        let (mut stock, order) = (self.0.clone(), order.into_inner());
        let left = stock.reserve(order.clone()).await?;
        let mut levels = stock.watch(order).await?.into_inner();
        while let Some(level) = levels.message().await? {
            tracing::info!("{} items are left", level.left);
        }
        Ok(left)
    }
}

/// Returns an observed channel to `url`.
fn channel(url: &str) -> Result<ClientService<Channel>> {
    let endpoint = Endpoint::from_shared(url.to_owned())?;
    let layer = grpc::client_layer(endpoint.uri()).trusted();
    let channel = ServiceBuilder::new().layer(layer);
    Ok(channel.service(endpoint.connect_lazy()))
}

async fn serve(address: &str, routes: Routes) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!("listening on {}", listener.local_addr()?);
    let layer = grpc::server_layer()
        .peer(|request| request.extensions.get::<TcpConnectInfo>()?.remote_addr());
    let interrupted = async { ctrl_c().await.unwrap_or_default() };
    let server = Server::builder().layer(layer).add_routes(routes);
    let listener = TcpListenerStream::new(listener);
    let serving = server.serve_with_incoming_shutdown(listener, interrupted);
    Ok(serving.await?)
}

#[tokio::main]
async fn main() -> Result<()> {
    let _telemetry = builder(service!()).install()?;
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["stock", address] => {
            let stock = stock_server::StockServer::new(Stock);
            serve(address, Routes::new(stock)).await
        }
        ["shop", address, stock] => {
            let shop = Shop(StockClient::new(channel(stock)?));
            serve(address, Routes::new(shop_server::ShopServer::new(shop))).await
        }
        ["buy", shop] => {
            let mut shop = ShopClient::new(channel(shop)?);
            let left = shop.sell(Order { quantity: 3 }).await?.into_inner().left;
            tracing::info!("bought, {left} are left");
            Ok(())
        }
        _ => bail!("expected: stock ADDRESS, shop ADDRESS STOCK-URL, or buy SHOP-URL"),
    }
}
