//! The page at the address that is configured. It is a client of this agent's own socket: what it reads, and how seldom, is in `ui`.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::api::client::Client;
use crate::api::listen;
use crate::config::{Config, ReadAccess};
use crate::ui::{Page, Token, serve as serve_page};

/// Serves it until `stop`. Where its token cannot be read there is none, and the log says so: networks do not depend on it.
pub async fn serve(address: SocketAddr, config: Arc<Config>, stop: CancellationToken) {
    let token = match config.ui_token_file.as_deref().map(Token::read).transpose() {
        Ok(token) => token,
        Err(error) => {
            tracing::warn!(%address, %error, "the page is not served");
            return;
        }
    };
    let page = Page::new(Client::new(&config.socket))
        .with_token(token)
        .closed(config.read == ReadAccess::Group)
        .with_names(config.ui_names.clone());
    let serving = async {
        let listener = listen(address, "the page", "ui").await;
        serve_page(listener, page, stop.clone()).await;
    };
    stop.run_until_cancelled(serving).await;
}
