//! Derives the details of a book from its title and author.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use slug::slugify;
use tracing::instrument;

use super::repository::Book;
use crate::details::{Derived, Details};

/// Articles that are moved to the end of the sort title.
const ARTICLES: [&str; 3] = ["The ", "An ", "A "];

/// Derives the details of a book. The metrics `bookapp.details.derive` measure it.
#[instrument(
    name = "record.derive",
    level = "debug",
    skip_all,
    fields(metric_name = "bookapp.details.derive")
)]
pub(super) fn details(book: &Book) -> Derived {
    Derived {
        details: Details {
            book_id: book.id,
            slug: slugify(&book.title),
            initials: initials(&book.author),
            sort_title: sort_title(&book.title),
            checksum: checksum(&book.title, &book.author),
            derived_at: Timestamp::now(),
        },
        book_version: book.version,
    }
}

fn initials(author: &str) -> String {
    author
        .split(|letter: char| letter.is_whitespace() || letter == '.' || letter == '-')
        .filter_map(|word| word.chars().find(|letter| letter.is_alphabetic()))
        .flat_map(char::to_uppercase)
        .collect()
}

fn sort_title(title: &str) -> String {
    for article in ARTICLES {
        if let Some(rest) = title.strip_prefix(article) {
            return format!("{rest}, {}", article.trim_end());
        }
    }
    title.to_owned()
}

fn checksum(title: &str, author: &str) -> String {
    hex::encode(Sha256::digest(format!("{title}\n{author}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_is_described_by_its_title_and_author() {
        let book = Book {
            id: 7,
            version: 1,
            title: "The Lord of the Rings".to_owned(),
            author: "J. R. R. Tolkien".to_owned(),
        };
        let Derived { details, .. } = details(&book);
        assert_eq!(details.slug, "the-lord-of-the-rings");
        assert_eq!(details.initials, "JRRT");
        assert_eq!(details.sort_title, "Lord of the Rings, The");
        assert_eq!(
            details.checksum,
            // printf 'The Lord of the Rings\nJ. R. R. Tolkien' | sha256sum
            "364cd7c98d06122bb5f41fc567a9fc1bf2fd7c99818939327241d88ef516eea0"
        );
    }

    #[test]
    fn any_script_and_no_author_will_do() {
        assert_eq!(initials("Émile Zola"), "ÉZ");
        assert_eq!(initials("村上 春樹"), "村春");
        assert_eq!(initials(""), "");
        assert_eq!(sort_title("Theory"), "Theory");
    }
}
