-- Archives that were imported into this database, so that an import which was interrupted can be repeated.

CREATE TABLE archive_import (
    archive_id text PRIMARY KEY,
    exported_at timestamptz NOT NULL,
    imported_at timestamptz NOT NULL DEFAULT now()
);
