-- Words by which clients find their things: ",a,b,", or "" for none; a tag has no comma, so ",a," within it is the tag a.
ALTER TABLE models ADD COLUMN tags TEXT NOT NULL DEFAULT '' CHECK (length(tags) <= 1100);
ALTER TABLE datasets ADD COLUMN tags TEXT NOT NULL DEFAULT '' CHECK (length(tags) <= 1100);
ALTER TABLE jobs ADD COLUMN tags TEXT NOT NULL DEFAULT '' CHECK (length(tags) <= 1100);
