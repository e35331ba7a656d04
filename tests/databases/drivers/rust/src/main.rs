//! Does one operation at the start and one for each line of its input, with the client that the page makes.

mod connect;

use mongodb::{
    Client,
    bson::{Document, doc},
};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

async fn operate(client: &Client) {
    match client.database("shop").collection::<Document>("orders").find_one(doc! {}).await {
        Ok(_) => println!("ok"),
        Err(error) => println!("failed: {}", error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = connect::connect().await?;
    operate(&client).await;
    let mut lines = BufReader::new(stdin()).lines();
    while lines.next_line().await?.is_some() {
        operate(&client).await;
    }
    client.shutdown().await;
    Ok(())
}
