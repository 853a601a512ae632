//! Prints which program removes something from hostport's tables, as many times as asked.
//!
//! As root: `cargo run --example watch -- 1`, and then elsewhere `nft flush ruleset`.

use hostport_nft::{Event, Events, TableName};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut left: u32 = std::env::args().nth(1).map_or(Ok(u32::MAX), |text| text.parse())?;
    // Programs of these names are ignored.
    let own = ["hostport".to_owned()];
    let mut events = Events::listen(TableName::default(), &own)?;
    println!("listening");
    while left > 0 {
        match events.hear() {
            Ok(Event::Removed { by }) => println!("{by} removed something of ours"),
            Ok(Event::Lost) => println!("notifications were lost: read the tables"),
            Ok(Event::Nothing) => continue,
            // Nothing came for ten seconds.
            Err(hostport_nft::Error::Transport(error))
                if error.kind() == std::io::ErrorKind::WouldBlock =>
            {
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        left -= 1;
    }
    Ok(())
}
