-- For both editions.

GRANT SELECT ON reading_1m, reading_1h, reading_1d TO tidegauge_reader;

-- Since when the aggregates and their policies have existed: a policy that has never run is late only some time after.
DROP TABLE IF EXISTS aggregates_built;
CREATE TABLE aggregates_built AS SELECT now() AS at;
