-- What the user `pixtail` may do: follow the binlog, ask where it ends, and read the listened table. It writes nothing.
--
-- On your own server: change `app`.`images` to your database and table, narrow '%' to the host Pixtail runs on, make the user first
--   CREATE USER 'pixtail'@'%' IDENTIFIED BY '…';
-- and run this file as an administrator. MySQL 8.0 and later, MariaDB 10.6 and later.

-- REPLICATION SLAVE: receive the binlog. It shows every table's changes, whatever SELECT says: guard the password accordingly.
-- REPLICATION CLIENT: SHOW BINARY LOG STATUS and SHOW BINARY LOGS, to know where the log begins and ends (MariaDB: BINLOG MONITOR).
-- Both are server-wide privileges; MySQL has no narrower form of them.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'pixtail'@'%';

-- The snapshot, and a look at the table's columns and key.
GRANT SELECT ON `app`.`images` TO 'pixtail'@'%';

-- The same for each table in table.lookups, if there are any.
-- GRANT SELECT ON `app`.`brands` TO 'pixtail'@'%';
