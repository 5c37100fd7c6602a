//! Idempotency keys: a POST that is repeated with the same `Idempotency-Key` has one effect, and the
//! same response.
//!
//! The key and the response are stored in the transaction of the effect. A concurrent request with the
//! same key waits for that transaction. After 24 hours, a key is forgotten.
//!
//! Convention: <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>.

use axum::{extract::FromRequestParts, http::request::Parts};
use service_common::pruning::{PRUNE_LIMIT, prune};
use sha2::{Digest, Sha256};
use sqlx::query;
use telemetry_common::db::{Database, Session, Transaction};
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, Required, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

use super::NewBook;
use crate::error::ApiError;

/// The header with the key.
const HEADER: &str = "idempotency-key";
/// The maximum length of a key, in bytes.
const MAX_LENGTH: usize = 255;

/// The `Idempotency-Key` of a request, if it has one.
#[derive(Clone, Debug)]
pub(crate) struct IdempotencyKey(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(HEADER) else {
            return Ok(Self(None));
        };
        let key = value.to_str().map_err(|_| ApiError::Key)?;
        let is_valid =
            (1..=MAX_LENGTH).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        is_valid
            .then(|| Self(Some(key.to_owned())))
            .ok_or(ApiError::Key)
    }
}

/// The parameter in the OpenAPI document.
impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(MAX_LENGTH))
            .pattern(Some("^[!-~]+$"));
        let parameter = ParameterBuilder::new()
            .name("Idempotency-Key")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(
                "A name of the client for this request, such as a UUID",
            ))
            .schema(Some(schema));
        vec![parameter.build()]
    }
}

/// What a key says about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// This is the first request with this key.
    First,
    /// The request was sent before, and added the books with these ids.
    Repeated(Vec<i32>),
    /// The key belongs to another request.
    Reused,
}

/// A request with a key.
#[derive(Clone, Debug)]
pub(super) struct KeyedRequest {
    key: String,
    fingerprint: Vec<u8>,
}

impl IdempotencyKey {
    /// Returns the key with the fingerprint of the request, if the request has a key. `route`
    /// distinguishes the operations.
    pub(super) fn of(self, route: &str, books: &[NewBook]) -> Option<KeyedRequest> {
        let key = self.0?;
        let mut hash = Sha256::new_with_prefix(route);
        for book in books {
            let (title, author, status) = (&book.title, &book.author, book.status);
            // A valid text does not contain the separator.
            hash.update(format!("\0{title}\0{author}\0{status:?}"));
        }
        Some(KeyedRequest {
            key,
            fingerprint: hash.finalize().to_vec(),
        })
    }
}

impl KeyedRequest {
    /// Claims the key in the caller's transaction.
    pub(super) async fn claim(&self, tx: &mut Transaction) -> sqlx::Result<Claim> {
        let claimed = query!(
            "
            insert into idempotency_keys (key, fingerprint)
            values ($1, $2)
            on conflict (key) do nothing
            ",
            self.key,
            self.fingerprint
        );
        let claimed = claimed.execute(tx.on("INSERT", "idempotency_keys")).await?;
        if claimed.rows_affected() == 1 {
            return Ok(Claim::First);
        }
        let first = query!(
            r#"
            select fingerprint, book_ids as "book_ids!"
            from idempotency_keys
            where key = $1
            "#,
            self.key
        );
        let first = first.fetch_one(tx.on("SELECT", "idempotency_keys")).await?;
        Ok(if first.fingerprint == self.fingerprint {
            Claim::Repeated(first.book_ids)
        } else {
            Claim::Reused
        })
    }

    /// Stores the response in the transaction that has claimed the key.
    pub(super) async fn store(&self, tx: &mut Transaction, book_ids: &[i32]) -> sqlx::Result<()> {
        query!(
            "
            update idempotency_keys
            set book_ids = $2
            where key = $1
            ",
            self.key,
            book_ids
        )
        .execute(tx.on("UPDATE", "idempotency_keys"))
        .await?;
        Ok(())
    }
}

/// Prunes the keys as long as it runs.
pub(crate) async fn prune_keys(db: &Database) {
    prune("idempotency_keys", || async {
        let pruned = query!(
            "
            delete from idempotency_keys
            where ctid = any(array(
                select ctid
                from idempotency_keys
                where created_at < now() - interval '24 hours'
                limit $1
                for update skip locked
            ))
            ",
            PRUNE_LIMIT.cast_signed()
        );
        let mut connection = db.untraced().await?;
        Ok(pruned.execute(&mut *connection).await?.rows_affected())
    })
    .await;
}
