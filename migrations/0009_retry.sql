-- The failed or cancelled job that this one does again; it may have been deleted since.
ALTER TABLE jobs ADD COLUMN retry_of TEXT;
