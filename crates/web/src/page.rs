//! The page for people while the app is closed or does not answer: one file, nothing is loaded, it asks again by itself.

/// The page.
pub fn page(says: &str, retry_after_s: u64) -> String {
    let says = escaped(says);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"refresh\" content=\"{retry_after_s}\">\n<title>Back soon</title>\n<style>\n\
         body {{ font: 1.1rem/1.5 system-ui, sans-serif; margin: 15vh auto; max-width: 32rem; padding: 0 1rem;\n\
         color: #222; background: #fafafa; }}\n\
         @media (prefers-color-scheme: dark) {{ body {{ color: #ddd; background: #181818; }} }}\n</style>\n</head>\n\
         <body>\n<main>\n<h1>Back soon</h1>\n<p role=\"status\">{says}.</p>\n\
         <p>This page asks again by itself in {retry_after_s} seconds.</p>\n</main>\n</body>\n</html>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_wrote_stays_text() {
        let page = page("closed: <script>\"&\"", 30);
        assert!(page.contains("closed: &lt;script&gt;&quot;&amp;&quot;.") && page.contains("content=\"30\""), "{page}");
    }
}
