"""From files to typed configuration: client and environment files, secrets, and where everything lies below a home."""
