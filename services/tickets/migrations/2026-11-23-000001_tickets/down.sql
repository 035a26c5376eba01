DROP TABLE reservations, tickets;
